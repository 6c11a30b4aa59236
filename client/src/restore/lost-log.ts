// That the server's log went backwards, as this device remembers it until its user accepts the log that is there now.

import { createByteReader, createByteWriter } from '@valise/protocol'
import { type Alarm, type AlarmCode, AlarmError } from '../alarm.ts'
import { storeKeys } from '../store/layout.ts'
import { put, type Store, type StoreOperation } from '../store/store.ts'

/** The alarms of a log that no longer holds what it held; the position in the list is what is stored. */
const CODES = ['log_epoch_changed', 'cursor_beyond_head', 'receipts_withdrawn'] as const satisfies AlarmCode[]
export type LostLogCode = (typeof CODES)[number]

export interface LostLog {
  readonly code: LostLogCode
  readonly noticedAtMs: number
}

const isLostLogCode = (code: AlarmCode): code is LostLogCode => CODES.some((known) => known === code)

/** What is to be remembered of an alarm; `undefined` for one of another kind. */
export function rememberLostLog({ code }: Alarm, noticedAtMs: number): StoreOperation | undefined {
  if (!isLostLogCode(code)) return undefined
  return put(storeKeys.lostLog, createByteWriter().u8(CODES.indexOf(code)).u64(noticedAtMs).finish())
}

export async function readLostLog(store: Store): Promise<LostLog | undefined> {
  const stored = await store.get(storeKeys.lostLog)
  if (stored === undefined) return undefined
  const reader = createByteReader(stored)
  const code = CODES[reader.u8()]
  const noticedAtMs = reader.u64()
  if (!reader.finish() || code === undefined) throw new AlarmError('store_damaged', { record: storeKeys.lostLog })
  return { code, noticedAtMs }
}
