// The rules of the device log (PROTOCOL C), one code each: what a refused entry breaks. The same on server and client.

export const DEVICE_LOG_RULES = {
  malformed: 'The bytes are not an entry: an unknown version, a wrong length, an unknown role or KEM',
  unknown_op: 'The operation is none of the ten',
  closed: 'The log was closed; nothing follows',
  genesis: 'Genesis stands first, and only first',
  user_id: 'user_id is not that of the log (zero in genesis)',
  seq: 'seq is not that of the newest entry plus 1 (0 in genesis)',
  prev: 'prev is not the hash of the newest entry (zero in genesis)',
  signer_unknown: 'The signer is no device of this log',
  signer_inactive: 'The signer was revoked',
  signer_suspended: 'The signer is suspended',
  signer_role: 'The signer is a mere member',
  signature: 'The signature does not hold',
  small_order_key: 'A public key is of small order',
  device_id: 'The signer of genesis is not the device that its first record makes',
  role: 'A record or a role that the operation does not allow',
  key_reused: 'A key or an id stood in the log before',
  genesis_pop: 'The recovery device did not sign the body of genesis',
  device_pop: 'The new device did not sign its record for this user',
  unknown_device: 'The entry names a device that is not in the log',
  device_inactive: 'The entry names a device that is revoked already, or names it twice',
  device_suspended: 'The entry suspends a suspended device, or changes its role',
  suspend_target: 'A device suspends itself or the recovery device',
  cut_differs: 'The entry revokes a suspended device with another cut than that of its suspension',
  recovery_irrevocable: 'The entry revokes the recovery device, which can only be replaced',
  recovery_form: 'A new recovery device is final at once where it must be pending, or the other way round',
  phrase_proof: 'The proof is not a signature of the active recovery device for this',
  close_pending: 'A close is pending already',
  nothing_pending: 'Nothing with this hash is pending that the signer may settle or cancel',
  epoch_number: 'The epoch is not the current one plus 1 (in `add`: not the current one)',
  epoch_members: 'The boxes are not exactly those of the devices active after the entry, sorted by id',
  epoch_link: 'The links of an epoch do not name older epochs, newest first',
  too_many_devices: 'More than 50 devices would be active, or 51 where the recovery device adds one',
  second_recovery: 'A recovery device is active already',
  last_manager: 'No manager would be left',
} as const satisfies Record<string, string>

export type DeviceLogRule = keyof typeof DEVICE_LOG_RULES

/** What a server refuses beside them, by its clock, its rows and its bounds: other `rule`s of `device_log_refused`. */
export const SERVER_LOG_RULES = {
  too_many_entries: 'The log is full, but for what saves the account',
  settle_too_early: 'The seven days are not over; `retry_after_ms` says when they are',
  cut_false: 'The device has no event with this seq and chain',
  entry_rate_limited:
    'The device or its user signed as many entries as 24 hours allow; `retry_after_ms` says when to come again',
} as const satisfies Record<string, string>

export type ServerLogRule = keyof typeof SERVER_LOG_RULES
