// The server as a process: configuration in, signals handled, exit code out. The first lines it prints are for a person
// who has just started it.

import { toBase64Url } from '@valise/protocol'
import { startApp } from './app.ts'
import { type Config, ConfigError, parseConfig, type RawConfig } from './config.ts'
import { describeNextKey } from './identity.ts'
import { type StrayFaults, watchStrayFaults } from './stray-faults.ts'
import { createLog, type Log } from './telemetry/log.ts'
import { DEFAULT_REPEATS } from './telemetry/log-repeats.ts'
import { describeUnstarted } from './unstarted.ts'

export interface ProcessParts {
  readonly flags: RawConfig
  print(line: string): void
  printError(line: string): void
  /** Prints one JSON object instead of lines for a person. */
  readonly isJson: boolean
}

/** After a fault, the time for all that stops besides the window of the drain. */
const STOP_AFTER_FAULT_MS = 5000

/**
 * Runs until SIGINT, SIGTERM or a fault that nothing handles (SES-6); a second signal ends at once. Resolves to the exit
 * code.
 */
export async function runServer({ flags, print, printError, isJson }: ProcessParts): Promise<number> {
  let config: Config | undefined
  let app: Started | 'late'
  let log: Log
  let faults: StrayFaults
  try {
    config = parseConfig(flags)
    log = createLog({ level: config.logLevel, format: config.logFormat, repeats: DEFAULT_REPEATS })
    faults = watchStrayFaults(log, config.drainMs + STOP_AFTER_FAULT_MS)
    app = await Promise.race([startApp(config, { log }), faults.late])
  } catch (error) {
    printError(`The server did not start: ${describeUnstarted(error, config)}`)
    return error instanceof ConfigError ? 2 : 1
  }
  if (app === 'late') return giveUp(log)
  // Before anything is printed: whoever waits for the greeting may signal at once.
  const signals = watchSignals()
  const fingerprint = toBase64Url(app.fingerprint)
  if (isJson) {
    const { publicUrl, adminUrl, databaseKind } = app
    print(
      JSON.stringify({
        type: 'listening',
        url: publicUrl,
        admin_url: adminUrl,
        fingerprint,
        next_fingerprint: toBase64Url(app.nextFingerprint),
        next_key: app.nextKey,
        database: databaseKind,
      }),
    )
  } else {
    for (const line of greeting(app, fingerprint, config)) print(line)
  }

  const cause = await Promise.race([signals.first, faults.first])
  const why = cause === 'fault' ? 'A fault that nothing handled, which the log shows' : cause
  if (!isJson) print(`${why}: finishing what is in flight …`)
  // A person who presses Ctrl-C waits for no window.
  const closing = app.close(cause === 'SIGINT' ? { drainMs: 0 } : {})
  const outcome = await Promise.race([closing.then(() => 'closed' as const), signals.later, faults.late])
  if (outcome === 'forced') return 130
  if (outcome === 'late') return giveUp(log)
  if (!isJson) print('Stopped. Everything acknowledged is stored.')
  return faults.hasHappened ? 1 : 0
}

function giveUp(log: Log): number {
  log.error({ event: 'app.drain.abandon' }, 'The server did not stop in time after a fault, and ends now')
  log.flush()
  return 1
}

type Started = Awaited<ReturnType<typeof startApp>>

function greeting(app: Started, fingerprint: string, { dataDir, identityFile, redisUrl }: Config): string[] {
  const store =
    app.databaseKind === 'pglite'
      ? [
          'embedded database; it survives a crash of the process, but a power cut can lose or damage',
          '               what the disk had not written: for that promise give it --database-url',
        ]
      : ['PostgreSQL']
  return [
    '',
    'Valise is running.',
    '',
    `  address      ${app.publicUrl}`,
    `  fingerprint  ${fingerprint}${app.isNewIdentity ? '  (new)' : ''}`,
    `  next key     ${toBase64Url(app.nextFingerprint)}`,
    `  data folder  ${dataDir}`,
    `  database     ${store.join('\n')}`,
    `  bus          ${redisUrl === undefined ? 'in this process' : 'Redis'}`,
    `  admin        ${app.adminUrl}  (a page to look at; /live /ready /metrics)`,
    '',
    `${describeNextKey(identityFile, app.nextKey)}.`,
    '',
    'Next, in other terminals:',
    '',
    `  npx valise init --server ${app.publicUrl} --name laptop --home ~/.valise-laptop`,
    `  npx valise link --server ${app.publicUrl} --name phone --home ~/.valise-phone`,
    '  npx valise approve REQUEST --home ~/.valise-laptop',
    '  echo hello | npx valise send notes --home ~/.valise-laptop',
    '  npx valise watch notes --home ~/.valise-phone',
    '',
    'Ctrl-C stops it.',
  ]
}

/** Under npm one Ctrl-C arrives twice: from the terminal, and passed on by npm. */
const SAME_INTERRUPTION_MS = 1000

/** Listens to the end of the process: a moment without a listener, and the second signal of one Ctrl-C would kill it. */
function watchSignals() {
  let firstAtMs: number | undefined
  let onFirst: (signal: NodeJS.Signals) => void = () => {}
  let onLater: (outcome: 'forced') => void = () => {}
  const first = new Promise<NodeJS.Signals>((resolve) => {
    onFirst = resolve
  })
  const later = new Promise<'forced'>((resolve) => {
    onLater = resolve
  })
  const onSignal = (signal: NodeJS.Signals): void => {
    const nowMs = performance.now()
    firstAtMs ??= nowMs
    onFirst(signal)
    if (nowMs - firstAtMs >= SAME_INTERRUPTION_MS) onLater('forced')
  }
  process.on('SIGINT', onSignal)
  process.on('SIGTERM', onSignal)
  return { first, later }
}
