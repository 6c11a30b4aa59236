// What a displaying device shows: a QR whose fragment no server is ever sent, and a code short enough to type. Both lead to
// one mailbox; whoever joins says which of the two secrets he has.

import { fromBase64Url, toBase64Url } from '@valise/protocol'
import { httpUrlOf } from '../http.ts'

export const MAILBOX_ID_BYTES = 16
export const OFFER_SECRET_BYTES = 32
const SHORT_FINGERPRINT_BYTES = 16
const VERSION = '1'
const CODE_DIGITS = 6
/** Nine digits. */
export const MIN_NAMEPLATE = 100_000_000
export const MAX_NAMEPLATE = 999_999_999
/** What a code looks like, for whoever typed something else. */
export const CODE_EXAMPLE = '412-730-958-305-118'

/** Which device a party is: one that belongs to the account, or the one that is to. */
export type PairingPart = 'existing' | 'new'

export const otherPart = (part: PairingPart): PairingPart => (part === 'existing' ? 'new' : 'existing')

export interface QrOffer {
  readonly form: 'qr'
  /** `ws://` or `wss://`. */
  readonly serverUrl: string
  readonly mailboxId: Uint8Array
  readonly secret: Uint8Array
  /** The first half of the server's fingerprint. */
  readonly shortFingerprint: Uint8Array
  /** Of who displays it. */
  readonly part: PairingPart
}

export interface CodeOffer {
  readonly form: 'code'
  /** Nine digits, which the server maps to the mailbox. */
  readonly nameplate: number
  /** Six, which the server never sees. */
  readonly digits: string
}

export type Offer = QrOffer | CodeOffer

/** The address in a QR. Throws a RangeError unless the server's address is ws:// or wss://. */
export function formatQrOffer({ serverUrl, mailboxId, secret, shortFingerprint, part }: Omit<QrOffer, 'form'>): string {
  const base = httpUrlOf(serverUrl)
  if (base === undefined) throw new RangeError('expected a ws:// or wss:// address')
  const fields = [VERSION, ...[mailboxId, secret, shortFingerprint].map(toBase64Url), part === 'new' ? 'n' : 'e']
  return `${base}/p#${fields.join('.')}`
}

/** The code as it is read aloud and typed: five groups of three digits. */
export const formatCodeOffer = ({ nameplate, digits }: Omit<CodeOffer, 'form'>): string =>
  `${nameplate}${digits}`.replace(/\d{3}(?=\d)/g, '$&-')

/** The text without what people add or leave out: two forms of one offer become the same. */
export function canonicalOffer(text: string): string {
  const offer = parseOffer(text)
  return offer?.form === 'code' ? formatCodeOffer(offer) : text.replace(/\s+/g, '')
}

/** `undefined` for anything else; forgives spaces, and hyphens in a code. */
export function parseOffer(text: string): Offer | undefined {
  const bare = text.replace(/\s+/g, '')
  const [, nameplate, digits] = /^([1-9]\d{8})(\d{6})$/.exec(bare.replaceAll('-', '')) ?? []
  if (nameplate !== undefined && digits !== undefined) {
    return { form: 'code', nameplate: Number(nameplate), digits }
  }
  return parseQrOffer(bare)
}

function parseQrOffer(text: string): QrOffer | undefined {
  const url = URL.canParse(text) ? new URL(text) : undefined
  const scheme = url?.protocol === 'https:' ? 'wss:' : url?.protocol === 'http:' ? 'ws:' : undefined
  if (url === undefined || scheme === undefined || url.search !== '' || url.username !== '') return undefined
  if (!url.pathname.endsWith('/p')) return undefined
  const [version, ...fields] = url.hash.slice(1).split('.')
  const [mailboxText = '', secretText = '', fingerprintText = '', partText, ...more] = fields
  const part = partText === 'e' ? 'existing' : partText === 'n' ? 'new' : undefined
  const mailboxId = fromBase64Url(mailboxText)
  const secret = fromBase64Url(secretText)
  const shortFingerprint = fromBase64Url(fingerprintText)
  if (version !== VERSION || part === undefined || more.length > 0) return undefined
  if (mailboxId?.length !== MAILBOX_ID_BYTES || secret?.length !== OFFER_SECRET_BYTES) return undefined
  if (shortFingerprint?.length !== SHORT_FINGERPRINT_BYTES) return undefined
  const serverUrl = `${scheme}//${url.host}${url.pathname.slice(0, -'/p'.length)}`
  return { form: 'qr', serverUrl, mailboxId, secret, shortFingerprint, part }
}

export const shortFingerprintOf = (fingerprint: Uint8Array): Uint8Array => fingerprint.slice(0, SHORT_FINGERPRINT_BYTES)

/** Six digits, each as likely as any other. */
export function createCodeDigits(random: { randomBytes(length: number): Uint8Array }): string {
  const range = 10 ** CODE_DIGITS
  // What would favour the low numbers is drawn again.
  const limit = Math.floor(2 ** 32 / range) * range
  for (;;) {
    const bytes = random.randomBytes(4)
    const value = new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0)
    if (value < limit) return String(value % range).padStart(CODE_DIGITS, '0')
  }
}
