// The server as a process: configuration in, signals handled, exit code out. The first lines it prints are for a person
// who has just started it.

import { toBase64Url } from '@valise/protocol'
import { startApp } from './app.ts'
import { type Config, ConfigError, parseConfig, type RawConfig } from './config.ts'
import { describeNextKey } from './identity.ts'
import { describeUnstarted } from './unstarted.ts'

export interface ProcessParts {
  readonly flags: RawConfig
  print(line: string): void
  printError(line: string): void
  /** Prints one JSON object instead of lines for a person. */
  readonly isJson: boolean
}

/** Runs until SIGINT or SIGTERM; a second signal ends at once. Resolves to the exit code. */
export async function runServer({ flags, print, printError, isJson }: ProcessParts): Promise<number> {
  let config: Config | undefined
  let app: Awaited<ReturnType<typeof startApp>>
  try {
    config = parseConfig(flags)
    app = await startApp(config)
  } catch (error) {
    printError(`The server did not start: ${describeUnstarted(error, config)}`)
    return error instanceof ConfigError ? 2 : 1
  }
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

  const signal = await signals.first
  if (!isJson) print(`${signal}: finishing what is in flight …`)
  // A person who presses Ctrl-C waits for no window.
  const closing = app.close(signal === 'SIGINT' ? { drainMs: 0 } : {})
  const outcome = await Promise.race([closing.then(() => 'closed' as const), signals.later])
  if (outcome === 'forced') return 130
  if (!isJson) print('Stopped. Everything acknowledged is stored.')
  return 0
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
