// A collector of OpenTelemetry traces, as small as one can be: it takes OTLP over HTTP as JSON and keeps the spans.

import { createServer } from 'node:http'
import { z } from 'zod'
import { closeServer, listen } from '../../src/http/listen.ts'

const attribute = z.object({ key: z.string(), value: z.record(z.string(), z.unknown()) })
const otlpSpan = z.object({
  name: z.string(),
  traceId: z.string(),
  spanId: z.string(),
  parentSpanId: z.string().optional(),
  startTimeUnixNano: z.string(),
  endTimeUnixNano: z.string(),
  attributes: z.array(attribute).default([]),
  links: z.array(z.object({ traceId: z.string(), spanId: z.string() })).default([]),
})
const otlpBody = z.object({
  resourceSpans: z.array(
    z.object({
      resource: z.object({ attributes: z.array(attribute) }),
      scopeSpans: z.array(z.object({ spans: z.array(otlpSpan) })),
    }),
  ),
})
export type ReceivedSpan = z.infer<typeof otlpSpan>

export interface OtlpReceiver {
  /** What OTEL_EXPORTER_OTLP_ENDPOINT is set to. */
  readonly endpoint: string
  readonly spans: readonly ReceivedSpan[]
  /** Every byte that came, for searching. */
  readonly bodies: readonly string[]
  /** From now on it answers everything with this status. */
  answerWith(status: number): void
  close(): Promise<void>
}

export async function startOtlpReceiver(): Promise<OtlpReceiver> {
  const spans: ReceivedSpan[] = []
  const bodies: string[] = []
  let status = 200
  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const text = Buffer.concat(chunks).toString('utf8')
      bodies.push(`${request.url} ${text}`)
      if (request.url === '/v1/traces' && status === 200) {
        const { resourceSpans } = otlpBody.parse(JSON.parse(text))
        spans.push(...resourceSpans.flatMap(({ scopeSpans }) => scopeSpans.flatMap((scope) => scope.spans)))
      }
      response.writeHead(status, { 'Content-Type': 'application/json' }).end('{}')
    })
  })
  const port = await listen(server, 0, '127.0.0.1')
  return {
    endpoint: `http://127.0.0.1:${port}`,
    spans,
    bodies,
    answerWith: (next) => {
      status = next
    },
    close: () => closeServer(server),
  }
}
