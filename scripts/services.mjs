// PostgreSQL and Redis together, as environment variables for whoever needs them.
// Run by hand (`node scripts/services.mjs`) it prints the variables and keeps both servers until Ctrl-C.
import { pathToFileURL } from 'node:url'
import { providePostgres } from './postgres.mjs'
import { provideRedis } from './redis.mjs'

/**
 * Resolves to { env, close }. When one of the two cannot be had, the other is ended again. With `isLocal` PostgreSQL is
 * reached over its Unix-domain socket, where it has one: what one would do on one machine, and half the price of TCP.
 */
export async function provideServices({ isLocal = false } = {}) {
  const results = await Promise.allSettled([
    providePostgres(process.env['VALISE_TEST_DATABASE_URL']),
    provideRedis(process.env['VALISE_TEST_REDIS_URL']),
  ])
  const close = async () => {
    await Promise.all(results.map((result) => result.value?.close()))
  }
  const failures = results.filter((result) => result.status === 'rejected')
  if (failures.length > 0) {
    await close()
    throw new Error(failures.map((failure) => failure.reason.message).join('\n'))
  }
  const [postgres, redis] = results.map((result) => result.value)
  const databaseUrl = (isLocal && postgres.socketUrl) || postgres.url
  return { env: { VALISE_TEST_DATABASE_URL: databaseUrl, VALISE_TEST_REDIS_URL: redis.url }, close }
}

async function keepUntilSignal() {
  const services = await provideServices()
  for (const [name, value] of Object.entries(services.env)) console.log(`export ${name}=${value}`)
  const heartbeat = setInterval(() => {}, 1 << 30)
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
    process.once(signal, async () => {
      clearInterval(heartbeat)
      await services.close()
    })
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  await keepUntilSignal().catch((error) => {
    console.error(error.message)
    process.exitCode = 1
  })
}
