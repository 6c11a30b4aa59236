// Asks the server who it is, without a session: enough to tell whether it answers, and with the key this device trusts.

const TIMEOUT_MS = 3000

export type ServerAnswer = 'answers' | 'other_key' | 'no_answer'

/** `fingerprint` as base64url. Never rejects. */
export async function probeServer(serverUrl: string, fingerprint: string): Promise<ServerAnswer> {
  try {
    const url = `${serverUrl.replace(/^ws/, 'http').replace(/\/+$/, '')}/.well-known/valise`
    const response = await fetch(url, { redirect: 'error', signal: AbortSignal.timeout(TIMEOUT_MS) })
    const answer: unknown = await response.json()
    if (typeof answer !== 'object' || answer === null || !('fingerprint' in answer)) return 'no_answer'
    return answer.fingerprint === fingerprint ? 'answers' : 'other_key'
  } catch {
    return 'no_answer'
  }
}

const DESCRIPTIONS: Readonly<Record<ServerAnswer, string>> = {
  answers: 'answers',
  other_key: 'answers WITH ANOTHER KEY than this device trusts: do not go on before its operator explains it',
  no_answer: 'does not answer',
}

export const describeServerAnswer = (answer: ServerAnswer): string => DESCRIPTIONS[answer]
