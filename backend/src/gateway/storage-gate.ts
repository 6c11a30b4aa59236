// What a session knows of the server's storage: whether anything new is taken at all.

export interface StorageGate {
  /** No event is stored, and no entry of the device log but those that protect an account. */
  isPublishingClosed(): boolean
  /** So many events or entries were refused for it. */
  countRefused(count: number): void
  /** When what is refused may come again. */
  readonly retryAfterMs: number
}
