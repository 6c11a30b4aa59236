// Tracing over OpenTelemetry's own SDK and OTLP exporter (HTTP, JSON), loaded only where an endpoint is configured. Spans wait
// in a bounded queue and are dropped when it is full; a collector that is away costs a warning, never an event. How many
// traces are kept is the SDK's to read, from OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG.

import { type Context, type Link, ROOT_CONTEXT, type SpanContext, TraceFlags, trace } from '@opentelemetry/api'
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http'
import { resourceFromAttributes } from '@opentelemetry/resources'
import { BasicTracerProvider, BatchSpanProcessor, type SpanExporter } from '@opentelemetry/sdk-trace-base'
import type { Log } from './log.ts'
import type { TraceContext, Tracing } from './tracing.ts'

export interface OtlpTracingParts {
  /** The collector's base URL, as OTEL_EXPORTER_OTLP_ENDPOINT gives it: `/v1/traces` is added. */
  readonly endpoint: string
  readonly log: Log
}

const EXPORT_TIMEOUT_MS = 10_000
const MAX_WAITING_SPANS = 4096
const SPANS_AT_ONCE = 512
const SEND_EVERY_MS = 1000
const CLOSE_TIMEOUT_MS = 3000
/** The SDK's code of an export that succeeded. */
const EXPORTED = 0

export function createOtlpTracing({ endpoint, log }: OtlpTracingParts): Tracing {
  const url = `${endpoint.replace(/\/+$/, '')}/v1/traces`
  const exporter = new OTLPTraceExporter({ url, timeoutMillis: EXPORT_TIMEOUT_MS })
  const provider = new BasicTracerProvider({
    resource: resourceFromAttributes({ 'service.name': 'valise' }),
    spanProcessors: [
      new BatchSpanProcessor(reporting(exporter, log), {
        maxQueueSize: MAX_WAITING_SPANS,
        maxExportBatchSize: SPANS_AT_ONCE,
        scheduledDelayMillis: SEND_EVERY_MS,
        exportTimeoutMillis: EXPORT_TIMEOUT_MS,
      }),
    ],
  })
  const tracer = provider.getTracer('valise')

  return {
    start: (name, { parent, links = [] } = {}) => {
      const span = tracer.startSpan(name, { links: links.map(linkTo) }, within(parent))
      if (!span.isRecording()) return undefined
      const { traceId, spanId } = span.spanContext()
      return {
        context: { traceId, spanId },
        end: (facts = {}) => {
          span.setAttributes(facts)
          span.end()
        },
      }
    },
    close: async () => {
      let timer: NodeJS.Timeout | undefined
      const expired = new Promise<void>((resolve) => {
        timer = setTimeout(resolve, CLOSE_TIMEOUT_MS)
      })
      // What a collector does not take by then is lost, and the exporter has said so.
      await Promise.race([provider.shutdown().catch(() => undefined), expired])
      clearTimeout(timer)
    },
  }
}

/** The same exporter, whose failures are logged: the SDK keeps them to itself. */
function reporting(exporter: SpanExporter, log: Log): SpanExporter {
  return {
    export: (spans, done) =>
      exporter.export(spans, (result) => {
        if (result.code !== EXPORTED) {
          const { error } = result
          log.warn({ event: 'telemetry.traces.lose', spans: spans.length, err: error }, 'Traces could not be exported')
        }
        done(result)
      }),
    shutdown: () => exporter.shutdown(),
    forceFlush: async () => exporter.forceFlush?.(),
  }
}

const toSpanContext = ({ traceId, spanId }: TraceContext, isRemote: boolean): SpanContext => ({
  traceId,
  spanId,
  isRemote,
  traceFlags: TraceFlags.SAMPLED,
})

const linkTo = (context: TraceContext): Link => ({ context: toSpanContext(context, false) })

const within = (parent: TraceContext | undefined): Context =>
  parent === undefined ? ROOT_CONTEXT : trace.setSpanContext(ROOT_CONTEXT, toSpanContext(parent, true))
