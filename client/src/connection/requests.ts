// Questions to the server and the answers that belong to them, by request id. Bounded in number and in time.

import type { ClientMessage, ErrorMessage, ServerMessage } from '@valise/protocol'
import type { Clock } from '../clock.ts'

type RequestMessage = Extract<ClientMessage, { request_id: number }>
export type RequestBody = RequestMessage extends infer Message
  ? Message extends RequestMessage
    ? Omit<Message, 'request_id'>
    : never
  : never
export type Answer = Extract<
  ServerMessage,
  { type: 'device_log' | 'envelopes' | 'device_log_appended' | 'pairing_opened' }
>

/** The session ended, or the server did not answer in time: what was asked may or may not have happened. */
export class SessionLostError extends Error {
  constructor(text: string) {
    super(text)
    this.name = 'SessionLostError'
  }
}

/** The server answered with an error. */
export class RequestRefusedError extends Error {
  readonly answer: ErrorMessage
  readonly asked: RequestBody['type']

  constructor(answer: ErrorMessage, asked: RequestBody['type']) {
    super(`the server refused a request: ${answer.code}`)
    this.name = 'RequestRefusedError'
    this.answer = answer
    this.asked = asked
  }
}

/** What was asked may or may not have happened, and is to be asked again in another session. */
export const isUndecided = (error: unknown): boolean =>
  error instanceof SessionLostError ||
  (error instanceof RequestRefusedError && (error.answer.code === 'unavailable' || isHeldBack(error)))

/** The server is well and takes it later: the session stays. */
export const isHeldBack = ({ answer }: RequestRefusedError): boolean =>
  answer.code === 'rate_limited' || answer.code === 'storage_low'

export interface Requests {
  ask(body: RequestBody): Promise<Answer>
  /** True when the message was the answer to a request. */
  settle(message: Answer | ErrorMessage): boolean
  /** Rejects everything that waits. */
  close(): void
}

export interface RequestsParts {
  readonly clock: Clock
  send(message: ClientMessage): void
  /** A request stayed without an answer: the session is of no more use. */
  onOverdue(): void
}

const ANSWER_TIMEOUT_MS = 30_000
const MAX_REQUESTS = 16

export function createRequests({ clock, send, onOverdue }: RequestsParts): Requests {
  const waitingById = new Map<
    number,
    {
      asked: RequestBody['type']
      resolve: (answer: Answer) => void
      reject: (error: Error) => void
      cancelTimer: () => void
    }
  >()
  let lastId = 0
  let isClosed = false

  const take = (id: number) => {
    const waiting = waitingById.get(id)
    waitingById.delete(id)
    waiting?.cancelTimer()
    return waiting
  }

  return {
    ask: (body) =>
      new Promise((resolve, reject) => {
        if (isClosed) return reject(new SessionLostError('the session ended'))
        if (waitingById.size >= MAX_REQUESTS) return reject(new SessionLostError('too many requests wait for answers'))
        lastId += 1
        const id = lastId
        const cancelTimer = clock.after(ANSWER_TIMEOUT_MS, () => {
          take(id)?.reject(new SessionLostError('the server did not answer in time'))
          onOverdue()
        })
        waitingById.set(id, { asked: body.type, resolve, reject, cancelTimer })
        send({ ...body, request_id: id })
      }),
    settle: (message) => {
      const id = message.request_id
      const waiting = id === undefined || id === null ? undefined : take(id)
      if (waiting === undefined) return false
      if (message.type === 'error') waiting.reject(new RequestRefusedError(message, waiting.asked))
      else waiting.resolve(message)
      return true
    },
    close: () => {
      isClosed = true
      for (const id of [...waitingById.keys()]) take(id)?.reject(new SessionLostError('the session ended'))
    },
  }
}
