// Asks a Prometheus every question of the dashboard: node ops/check-dashboard.mjs http://127.0.0.1:9090 [JOB]. Says which
// panels it cannot answer, or has no data for; the exit code is 0 when there is none.
import { readFileSync } from 'node:fs'
import { fileURLToPath, pathToFileURL } from 'node:url'

const dashboardFile = fileURLToPath(new URL('./grafana/dashboards/valise.json', import.meta.url))
const timeoutMs = 10_000

export const dashboard = () => JSON.parse(readFileSync(dashboardFile, 'utf8'))

/** Every query, with Grafana's variables put in: { panel, expression }. */
export function listQueries({ job = 'valise', interval = '1m' } = {}) {
  return dashboard().panels.flatMap(({ title, targets }) =>
    targets.map(({ expr }) => ({
      panel: title,
      expression: expr.replaceAll('$__rate_interval', interval).replaceAll('$job', job),
    })),
  )
}

/** Each query with what came of it: `data`, `no data`, or what Prometheus said against it. */
export async function askPrometheus(url, options) {
  const ask = async ({ panel, expression }) => {
    const response = await fetch(`${url}/api/v1/query`, {
      method: 'POST',
      body: new URLSearchParams({ query: expression }),
      signal: AbortSignal.timeout(timeoutMs),
    })
    const { status, error, data } = await response.json()
    const outcome = status !== 'success' ? error : data.result.length > 0 ? 'data' : 'no data'
    return { panel, expression, outcome }
  }
  return Promise.all(listQueries(options).map(ask))
}

async function main([url, job]) {
  if (url === undefined) {
    console.error('Expected the address of a Prometheus: node ops/check-dashboard.mjs http://127.0.0.1:9090 [JOB]')
    return 2
  }
  try {
    const answers = await askPrometheus(url, job === undefined ? {} : { job })
    const unanswered = answers.filter(({ outcome }) => outcome !== 'data')
    for (const { panel, expression, outcome } of unanswered) console.log(`${panel}: ${outcome}\n  ${expression}`)
    console.log(`${answers.length - unanswered.length} of ${answers.length} queries have data`)
    return unanswered.length === 0 ? 0 : 1
  } catch (error) {
    console.error(`${url} does not answer: ${error.cause?.message ?? error.message}`)
    return 1
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) process.exitCode = await main(process.argv.slice(2))
