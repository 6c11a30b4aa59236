// The server's first frame: who is connected, until when, within which limits, and where log and counters stand (SES-1).

import { z } from 'zod'
import { counter, deviceId, fixedBytes, u32, userId } from './fields.ts'

export const limits = z.strictObject({
  max_payload: u32,
  max_frame: u32,
  max_batch_events: u32,
  max_page_events: u32,
  max_page_bytes: u32,
  max_devices: u32,
  max_streams: u32,
  max_device_log_entries: u32,
  max_user_bytes: counter,
  send_buffer_bytes: u32,
  device_events_per_s: u32,
  device_events_burst: u32,
  user_events_per_s: u32,
  user_events_burst: u32,
  device_bytes_per_s: u32,
  device_bytes_burst: u32,
  user_bytes_per_s: u32,
  user_bytes_burst: u32,
  handshakes_per_min: u32,
  handshakes_burst: u32,
  handshake_timeout_ms: u32,
})

export const sessionEstablished = z.strictObject({
  type: z.literal('session_established'),
  session_id: fixedBytes(16),
  /** Zero in a session that registers. */
  user_id: userId,
  device_id: deviceId,
  /** Unix milliseconds. */
  server_time: counter,
  expires_at: counter,
  limits,
  device_log_seq: counter,
  device_log_head: fixedBytes(32),
  key_epoch: u32,
  log_epoch: fixedBytes(16),
  /** When it began, Unix milliseconds by the database's clock. */
  log_epoch_at: counter,
  last_device_seq: counter,
  /** The highest user_seq of the user's log. */
  head: counter,
})
export type SessionEstablished = z.infer<typeof sessionEstablished>
