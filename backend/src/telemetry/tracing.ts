// Traces, as the rest of the server sees them: a span has a name of a closed list, a place in a trace, and numbers. Where
// tracing is off there is no `Tracing` at all, and nothing is done for it. What a trace holds is counts and times: never an id
// of a user, a device, a stream or an event. Over OpenTelemetry it goes in `otlp-tracing.ts`.

/** From a publish message to the devices it reaches, in the order they happen. */
export type SpanName = 'event.publish' | 'log.commit' | 'bus.announce' | 'event.deliver'

/** Where a span stands: W3C Trace Context, lower-case hexadecimal, always sampled. Travels between nodes. */
export interface TraceContext {
  /** 32 digits. */
  readonly traceId: string
  /** 16 digits. */
  readonly spanId: string
}

export type SpanFacts = Readonly<Record<`valise.${string}`, number>>

export interface Span {
  readonly context: TraceContext
  end(facts?: SpanFacts): void
}

export interface SpanPlace {
  /** Undefined: a trace begins. */
  readonly parent?: TraceContext | undefined
  /** Others that this span is the work of, too. */
  readonly links?: readonly TraceContext[]
}

export interface Tracing {
  /** Undefined when this trace is not among those that are kept. */
  start(name: SpanName, place?: SpanPlace): Span | undefined
  /** Sends what is left, for a bounded time. */
  close(): Promise<void>
}
