// Why an event was not taken into the outbox, in words fit to show.

export type PublishErrorCode =
  | 'payload_too_large'
  | 'bad_stream_name'
  | 'bad_content'
  | 'bad_ttl'
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
