// Asks the server who it is, without a session: enough to tell whether it answers, and with the key this device trusts.

import { nodeHttp } from '@valise/client/node'

const TIMEOUT_MS = 3000

export type ServerAnswer = 'answers' | 'next_key' | 'other_key' | 'no_answer'

/** As base64url: the key that this device trusts, and the next one that it knows. */
export interface TrustedKeys {
  readonly fingerprint: string
  readonly next: string | undefined
}

/** Never rejects. */
export async function probeServer(serverUrl: string, { fingerprint, next }: TrustedKeys): Promise<ServerAnswer> {
  try {
    const url = `${serverUrl.replace(/^ws/, 'http').replace(/\/+$/, '')}/.well-known/valise`
    const response = await nodeHttp({ method: 'GET', url, signal: AbortSignal.timeout(TIMEOUT_MS) })
    const answer: unknown = JSON.parse(Buffer.from(response.body).toString('utf8'))
    if (typeof answer !== 'object' || answer === null || !('fingerprint' in answer)) return 'no_answer'
    if (answer.fingerprint === fingerprint) return 'answers'
    return next !== undefined && answer.fingerprint === next ? 'next_key' : 'other_key'
  } catch {
    return 'no_answer'
  }
}

const DESCRIPTIONS: Readonly<Record<ServerAnswer, string>> = {
  answers: 'answers',
  next_key: 'answers with the next key: it changed its key, and this device follows when it is next online',
  other_key: 'answers WITH ANOTHER KEY than this device trusts: do not go on before its operator explains it',
  no_answer: 'does not answer',
}

export const describeServerAnswer = (answer: ServerAnswer): string => DESCRIPTIONS[answer]
