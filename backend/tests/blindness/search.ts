// Looks for a secret in everything a server left behind, in every form in which it might stand there.

const decimals = (bytes: Uint8Array): string => [...bytes].join(',')

/** The characters that stand for `bytes` alone wherever they begin in what is encoded: three alignments. */
function base64Cores(bytes: Uint8Array): string[] {
  return [0, 1, 2].map((shift) => {
    const text = Buffer.concat([Buffer.alloc(shift), bytes])
      .toString('base64')
      .replace(/=+$/, '')
    const isWhole = (shift + bytes.length) % 3 === 0
    return text.slice([0, 2, 3][shift], isWhole ? undefined : -1)
  })
}

/** Raw, hexadecimal, base64, base64url, and the list of decimals that a careless JSON.stringify makes. */
export function formsOf(secret: Uint8Array): Buffer[] {
  const hex = Buffer.from(secret).toString('hex')
  const base64 = base64Cores(secret)
  const base64url = base64.map((core) => core.replaceAll('+', '-').replaceAll('/', '_'))
  const texts = new Set([hex, hex.toUpperCase(), ...base64, ...base64url, decimals(secret)])
  return [Buffer.from(secret), ...[...texts].map((text) => Buffer.from(text, 'latin1'))]
}

/** Bytes by the place they were found in. */
export type Remains = ReadonlyMap<string, readonly Uint8Array[]>

interface Candidate {
  readonly name: string
  readonly form: Buffer
}

const keyAt = (bytes: Uint8Array, at: number): number => (bytes[at]! << 16) | (bytes[at + 1]! << 8) | bytes[at + 2]!

/** Which secret stands where; empty when none does. One pass over the bytes, whatever the number of secrets. */
export function findSecrets(secrets: ReadonlyMap<string, Uint8Array>, remains: Remains): string[] {
  const isFirst = new Uint8Array(1 << 24)
  const candidatesByKey = new Map<number, Candidate[]>()
  for (const [name, secret] of secrets) {
    for (const form of formsOf(secret)) {
      const key = keyAt(form, 0)
      isFirst[key] = 1
      candidatesByKey.set(key, [...(candidatesByKey.get(key) ?? []), { name, form }])
    }
  }
  const found = new Set<string>()
  for (const [place, pieces] of remains) {
    for (const piece of pieces) {
      const bytes = Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength)
      for (let at = 0; at + 3 <= bytes.length; at++) {
        const key = keyAt(bytes, at)
        if (isFirst[key] === 0) continue
        for (const { name, form } of candidatesByKey.get(key) ?? []) {
          if (form.equals(bytes.subarray(at, at + form.length))) found.add(`${name} in ${place}`)
        }
      }
    }
  }
  return [...found]
}
