// The bounds both sides keep (DESIGN 11). The server announces the configurable ones in `session_established`.

/** What a server announces; the defaults stand in `DEFAULT_LIMITS`. */
export interface Limits {
  /** Bytes of application data in one event, before padding. */
  readonly max_payload: number
  /** Bytes of one frame on the socket. */
  readonly max_frame: number
  /** Events in one publish message and in one batch of the log. */
  readonly max_batch_events: number
  /** Events and bytes in one replay page. */
  readonly max_page_events: number
  readonly max_page_bytes: number
  readonly max_devices: number
  readonly max_streams: number
  /** Entries of a user's device log but for the one that closes it. */
  readonly max_device_log_entries: number
  /** Sealed bytes that are kept of a user, above which the oldest go; 0: all. */
  readonly max_user_bytes: number
  /** Bytes waiting in a socket above which nothing more is delivered to it. */
  readonly send_buffer_bytes: number
  /** Rates; 0: not limited. A burst is what a quiet one may do at once. */
  readonly device_events_per_s: number
  readonly device_events_burst: number
  readonly user_events_per_s: number
  readonly user_events_burst: number
  /** Bytes of sealed events. */
  readonly device_bytes_per_s: number
  readonly device_bytes_burst: number
  readonly user_bytes_per_s: number
  readonly user_bytes_burst: number
  /** Of one address. */
  readonly handshakes_per_min: number
  readonly handshakes_burst: number
  readonly handshake_timeout_ms: number
}

export const DEFAULT_LIMITS: Limits = {
  max_payload: 256 * 1024,
  max_frame: 1024 * 1024,
  max_batch_events: 512,
  max_page_events: 500,
  max_page_bytes: 1024 * 1024,
  max_devices: 50,
  max_streams: 10_000,
  max_device_log_entries: 10_000,
  max_user_bytes: 1024 * 1024 * 1024,
  send_buffer_bytes: 1024 * 1024,
  device_events_per_s: 200,
  device_events_burst: 2000,
  user_events_per_s: 1000,
  user_events_burst: 10_000,
  // A file of 64 MiB at once, in events of the largest size, and then about what a home connection uploads (32 Mbit/s).
  device_bytes_per_s: 4 * 1024 * 1024,
  device_bytes_burst: 64 * 1024 * 1024,
  user_bytes_per_s: 8 * 1024 * 1024,
  user_bytes_burst: 128 * 1024 * 1024,
  handshakes_per_min: 60,
  handshakes_burst: 60,
  handshake_timeout_ms: 10_000,
}

/** Above `max_devices`, for a device that the recovery phrase signs in: a user who lost all he may have gets back in. */
export const RECOVERED_DEVICES_BEYOND = 1
/** All that are active at a time, the recovery device among them. */
export const MAX_ACTIVE_DEVICES = DEFAULT_LIMITS.max_devices + RECOVERED_DEVICES_BEYOND + 1
/** Links of one key epoch to older ones. */
export const MAX_EPOCH_LINKS = 8
/** How long what a manager asks for without the phrase waits, by the server's clock. */
export const PENDING_MS = 7 * 24 * 60 * 60 * 1000
/** A device-log entry never needs more (52 devices, X-Wing keys). */
export const MAX_DEVICE_LOG_ENTRY_BYTES = 16 * 1024
/** LP(enc) | LP(ct) of an X-Wing box is 1 176 bytes. */
export const MAX_BOX_BYTES = 2048
/** Entries in one page of the device log. */
export const MAX_DEVICE_LOG_PAGE = 50
/** The largest frame before an account stands: a `register` with the largest entry and two boxes, and its fields around them. */
export const MAX_REGISTER_FRAME_BYTES = MAX_DEVICE_LOG_ENTRY_BYTES + 2 * MAX_BOX_BYTES + 1024
/** A TTL of ten years bounds `expires_at`. */
export const MAX_TTL_S = 315_360_000
/** An invitation: too many to guess. */
export const INVITATION_BYTES = 16
