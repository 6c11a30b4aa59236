// How PostgreSQL's text forms become JavaScript values, the same for both databases: bigint as number (no counter
// reaches 2^53), bytea as bytes, arrays of integers and booleans as arrays.

const OID = {
  bool: 16,
  bytea: 17,
  int8: 20,
  int2: 21,
  int4: 23,
  float8: 701,
  boolArray: 1000,
  int4Array: 1007,
  int8Array: 1016,
}

const toBoolean = (text: string): boolean => text === 't'
const toBytes = (text: string): Uint8Array => Buffer.from(text.slice(2), 'hex')
const splitArray = (text: string): string[] => (text === '{}' ? [] : text.slice(1, -1).split(','))
const toNumbers = (text: string): number[] => splitArray(text).map(Number)

/** By the type's OID; a type that is not here stays text. */
export const PARSERS: Readonly<Record<number, (text: string) => unknown>> = {
  [OID.bool]: toBoolean,
  [OID.bytea]: toBytes,
  [OID.int8]: Number,
  [OID.int2]: Number,
  [OID.int4]: Number,
  [OID.float8]: Number,
  [OID.boolArray]: (text) => splitArray(text).map(toBoolean),
  [OID.int4Array]: toNumbers,
  [OID.int8Array]: toNumbers,
}

export const BYTEA_OID = OID.bytea

/** bytea's hexadecimal input form. */
export const formatBytea = (bytes: Uint8Array): string =>
  `\\x${Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex')}`

/** An array parameter of integers, in the one text form that both drivers pass on unchanged. */
export const formatIntegers = (values: readonly number[]): string => `{${values.join(',')}}`

/** An array parameter of bytea, likewise. */
export const formatByteaArray = (values: readonly Uint8Array[]): string =>
  `{${values.map((bytes) => `"\\${formatBytea(bytes)}"`).join(',')}}`
