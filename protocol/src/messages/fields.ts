// The pieces that message schemas are made of. A description in `meta` goes into the schema's hash,
// so a bound cannot change unnoticed. Error paths name a field; values never leave the parser.

import { z } from 'zod'
import type { DeviceId, UserId } from '../ids.ts'

/** A byte string of `min` to `max` bytes. */
export const bytes = (min: number, max: number) =>
  z
    .custom<Uint8Array>((value) => value instanceof Uint8Array && value.length >= min && value.length <= max)
    .meta({ bytes: `${min}..${max}` })

export const fixedBytes = (length: number) => bytes(length, length)

export const userId = z
  .custom<UserId>((value) => value instanceof Uint8Array && value.length === 32)
  .meta({ bytes: 'user_id' })

export const deviceId = z
  .custom<DeviceId>((value) => value instanceof Uint8Array && value.length === 16)
  .meta({ bytes: 'device_id' })

/** A counter or a Unix time in milliseconds: 0 to 2^53 - 1. */
export const counter = z.int().min(0)

export const u32 = z.int().min(0).max(0xffff_ffff)

/** Chosen by the asker, unique among his requests in flight on this session. */
export const requestId = u32
