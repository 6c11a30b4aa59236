// Two ends of a session over one filling of the crypto port, and the parts they are made of.

import type { Crypto, Signer } from '../../src/crypto.ts'
import type { ClientIdentity, ServerPolicy } from '../../src/handshake/auth.ts'
import {
  type ClientHandshake,
  type ClientHandshakeResult,
  createClientHandshake,
} from '../../src/handshake/client-handshake.ts'
import type { SessionSecrets } from '../../src/handshake/key-schedule.ts'
import { createServerHandshake, type ServerHandshake } from '../../src/handshake/server-handshake.ts'
import { serverFingerprint } from '../../src/handshake/server-key.ts'
import { toDeviceId, toUserId } from '../../src/ids.ts'
import { createSessionChannel, type SessionChannel } from '../../src/session/channel.ts'

/** SHA-256 of a key that follows the test server's. */
export const TEST_NEXT_FINGERPRINT: Uint8Array = new Uint8Array(32).fill(7)

export const TEST_POLICY: ServerPolicy = {
  timeMs: 1_700_000_000_000,
  softEvents: 800,
  hardEvents: 1000,
  maxAgeS: 86_400,
  maxFrame: 1_048_576,
}

export function createTestIdentity(
  crypto: Crypto,
  signer: Signer,
  changes: Partial<ClientIdentity> = {},
): ClientIdentity {
  return {
    mode: 'device',
    userId: toUserId(crypto.randomBytes(32))!,
    deviceId: toDeviceId(crypto.randomBytes(16))!,
    publicKey: signer.publicKey,
    logSeq: 3,
    logHead: crypto.randomBytes(32),
    canRekey: true,
    clientInfo: 'test/1',
    ...changes,
  }
}

export interface HandshakePair {
  readonly client: ClientHandshake
  readonly server: ServerHandshake
  readonly identity: ClientIdentity
  readonly clientSigner: Signer
  readonly serverSigner: Signer
}

export interface HandshakePairOptions {
  readonly crypto: Crypto
  readonly clientSigner?: Signer
  readonly serverSigner?: Signer
  readonly identity?: Partial<ClientIdentity>
  readonly pinnedFingerprint?: Uint8Array
  readonly pinnedNextFingerprint?: Uint8Array
}

export function createHandshakePair(options: HandshakePairOptions): HandshakePair {
  const { crypto } = options
  const clientSigner = options.clientSigner ?? crypto.createSigner(crypto.randomBytes(32))
  const serverSigner = options.serverSigner ?? crypto.createSigner(crypto.randomBytes(32))
  const identity = createTestIdentity(crypto, clientSigner, options.identity)
  const { pinnedNextFingerprint } = options
  const pinnedFingerprint = options.pinnedFingerprint ?? serverFingerprint(crypto, serverSigner.publicKey)
  return {
    client: createClientHandshake({ crypto, signer: clientSigner, identity, pinnedFingerprint, pinnedNextFingerprint }),
    server: createServerHandshake({
      crypto,
      signer: serverSigner,
      nextFingerprint: TEST_NEXT_FINGERPRINT,
      policy: () => TEST_POLICY,
    }),
    identity,
    clientSigner,
    serverSigner,
  }
}

/** The server's answer to the client's hello; throws when it refuses. */
export async function answerHello({ client, server }: HandshakePair): Promise<string> {
  const answer = await server.receiveHello(client.hello)
  if (!answer.ok) throw new Error(answer.code)
  return answer.reply
}

export type FinishedHandshake = Extract<ClientHandshakeResult, { ok: true }>

/** The client's proof; throws when the client refuses the server. */
export async function finishHandshake(pair: HandshakePair): Promise<FinishedHandshake> {
  const finished = await pair.client.finish(await answerHello(pair))
  if (!finished.ok) throw new Error(finished.reason)
  return finished
}

export async function createSecretsPair(
  options: HandshakePairOptions,
): Promise<{ client: SessionSecrets; server: SessionSecrets }> {
  const pair = createHandshakePair(options)
  const finished = await finishHandshake(pair)
  const auth = pair.server.receiveAuth(finished.authText)
  const secrets = auth.ok ? auth.verify(pair.clientSigner.publicKey) : undefined
  if (secrets === undefined) throw new Error('the server refused')
  return { client: finished.secrets, server: secrets }
}

export async function createChannelPair(crypto: Crypto): Promise<{ client: SessionChannel; server: SessionChannel }> {
  const secrets = await createSecretsPair({ crypto })
  return {
    client: createSessionChannel({ crypto, role: 'client', secrets: secrets.client }),
    server: createSessionChannel({ crypto, role: 'server', secrets: secrets.server }),
  }
}
