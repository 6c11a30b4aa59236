// The command line as a whole: its commands, the flags they all take, and how every way to fail is told.

import { readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import type { Writable } from 'node:stream'
import { Command, CommanderError } from 'commander'
import { addAccount } from './commands/account.ts'
import { addApprove } from './commands/approve.ts'
import { addDevices } from './commands/devices.ts'
import { addExport } from './commands/export.ts'
import { addImport } from './commands/import.ts'
import { addInit } from './commands/init.ts'
import { addLink } from './commands/link.ts'
import { addPair } from './commands/pair.ts'
import { addRecover } from './commands/recover.ts'
import { addRecovery } from './commands/recovery.ts'
import { addRefused } from './commands/refused.ts'
import { addRename } from './commands/rename.ts'
import { addRepublish } from './commands/republish.ts'
import { addRevoke } from './commands/revoke.ts'
import { addRole } from './commands/role.ts'
import { addRotate } from './commands/rotate.ts'
import { addSend } from './commands/send.ts'
import { addStatus } from './commands/status.ts'
import { addTrust } from './commands/trust.ts'
import { addVerify } from './commands/verify.ts'
import { addWatch } from './commands/watch.ts'
import { describeFailure, EXIT, MisuseError } from './failure.ts'
import type { AddCommand, Run } from './invocation.ts'
import { addAdmin } from './operator/admin.ts'
import { addConfig } from './operator/config.ts'
import { addDoctor } from './operator/doctor.ts'
import { addServe } from './operator/serve.ts'
import { addTop } from './operator/top.ts'
import { createOutput, type Output } from './output.ts'
import { createPrompt } from './prompt.ts'
import type { TypedInput } from './typed-lines.ts'

export interface ProgramParts {
  readonly stdin: TypedInput
  readonly stdout: Writable & { readonly isTTY?: boolean }
  readonly stderr: Writable
  readonly environment: Readonly<Record<string, string | undefined>>
  /** The user's home folder; throws when the system knows none. Default: what the system says. */
  readonly homeFolder?: () => string
}

interface GlobalOptions {
  readonly json?: true
  readonly yes?: true
  readonly home?: string
}

function defaultHome(homeFolder: () => string): string {
  try {
    return join(homeFolder(), '.valise')
  } catch {
    throw new MisuseError('no_home_folder', 'This user has no home folder. Name a folder with --home or VALISE_HOME.')
  }
}

/** Runs one command line, without the program's own name; resolves to the exit code when everything is written. */
export async function runProgram(args: readonly string[], parts: ProgramParts): Promise<number> {
  // Failures of the command line itself are told before its flags are known.
  const output = createOutput({ stdout: parts.stdout, stderr: parts.stderr, isJson: args.includes('--json') })
  let exitCode: number = EXIT.success

  const run: Run = (work) =>
    async function (...args) {
      const { yes, home } = this.optsWithGlobals<GlobalOptions>()
      const prompt = createPrompt({
        stdin: parts.stdin,
        stderr: parts.stderr,
        answersYes: yes === true,
        onInterrupt: () => void process.kill(process.pid, 'SIGINT'),
      })
      const invocation = {
        output,
        prompt,
        // Only when a command asks for it: a server needs none, and its user may have none.
        get homeDir() {
          return resolve(home || parts.environment['VALISE_HOME'] || defaultHome(parts.homeFolder ?? homedir))
        },
        stdin: parts.stdin,
      }
      exitCode = await work(invocation, ...args)
    }

  const program = createProgram(run, output)
  let told: unknown
  try {
    await program.parseAsync(args, { from: 'user' })
  } catch (error) {
    told = error
    exitCode = error instanceof CommanderError ? tellCommandLine(error, output) : tellFailure(error, output)
  }
  await output.drained().catch((error: unknown) => {
    if (error !== told) exitCode = tellFailure(error, output)
  })
  return exitCode
}

/** In the order of the help. */
const COMMANDS: readonly AddCommand[] = [
  addServe,
  addAdmin,
  addInit,
  addLink,
  addApprove,
  addPair,
  addSend,
  addWatch,
  addRefused,
  addStatus,
  addDevices,
  addRename,
  addRepublish,
  addRole,
  addRevoke,
  addRotate,
  addRecovery,
  addRecover,
  addVerify,
  addTrust,
  addTop,
  addDoctor,
  addConfig,
  addExport,
  addImport,
  addAccount,
]

function createProgram(run: Run, output: Output): Command {
  const program = new Command('valise')
    .description('Carries your events between your devices: sealed end to end, in order, exactly once.')
    .option('--json', 'print one JSON object a line, for machines')
    .option('--yes', 'answer every question with yes')
    .option('--home <dir>', "folder of this device's state (default: VALISE_HOME, else ~/.valise)")
    .version(readVersion(), '--version', 'print the version')
    .helpCommand('help [command]', 'show how a command is used')
    .helpOption('--help', 'show how it is used')
    .configureOutput({
      writeOut: (text) => output.result(text.trimEnd(), { help: text }),
      // Told once, with its exit code, by whoever catches the error.
      writeErr: () => {},
      outputError: () => {},
    })
  for (const add of COMMANDS) add(program, run)
  for (const command of withSubcommands(program)) {
    command.allowExcessArguments(false).exitOverride((error) => {
      throw explain(command, error)
    })
  }
  return program
}

const withSubcommands = (command: Command): Command[] => [command, ...command.commands.flatMap(withSubcommands)]

/** Adds what was expected to commander's own words. */
function explain(command: Command, error: CommanderError): CommanderError {
  if (error.exitCode === 0) return error
  const path = pathOf(command)
  const names = command.commands.map((known) => known.name()).join(', ')
  const problem = error.code === 'commander.help' ? 'No command was given.' : error.message.replace(/^error: /, '')
  const expected = names === '' ? `Usage: ${path} ${command.usage()}` : `Expected one of: ${names}.`
  return new CommanderError(EXIT.misuse, error.code, `${problem}\n${expected}\n\`${path} --help\` shows more.`)
}

const pathOf = (command: Command): string =>
  command.parent === null ? command.name() : `${pathOf(command.parent)} ${command.name()}`

function tellCommandLine(error: CommanderError, output: Output): number {
  if (error.exitCode === 0) return EXIT.success
  output.failure('bad_command_line', error.message)
  return EXIT.misuse
}

function tellFailure(error: unknown, output: Output): number {
  const { code, text, exitCode } = describeFailure(error)
  output.failure(code, text)
  return exitCode
}

function readVersion(): string {
  const manifest: unknown = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'))
  const isManifest = typeof manifest === 'object' && manifest !== null && 'version' in manifest
  return isManifest ? String(manifest.version) : 'unknown'
}
