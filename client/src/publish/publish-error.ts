// Why an event was not taken into the outbox, in words fit to show.

export type PublishErrorCode =
  | 'payload_too_large'
  | 'bad_stream_name'
  | 'bad_content'
  | 'bad_ttl'
  /** What the server refused is kept, and fills the outbox until it is retried or discarded. */
  | 'refused_content_full'
  | 'stopped'
  /** This device is suspended: what waits stays in the outbox. */
  | 'suspended'
  | 'aborted'

export class PublishError extends Error {
  readonly code: PublishErrorCode

  constructor(code: PublishErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'PublishError'
    this.code = code
  }
}
