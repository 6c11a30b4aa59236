// The key schedule against the traces of RFC 8448 section 3, which are TLS 1.3's own: only the label prefix
// differs from ours. The rest pins our labels and domains.

import { expect, test } from 'vitest'
import { concatBytes, encodeUtf8, toHex } from '../src/bytes.ts'
import {
  deriveHandshakeSecrets,
  deriveMasterSecret,
  deriveTrafficSecrets,
  finishedMac,
} from '../src/handshake/key-schedule.ts'
import { hashWithContext, kdf, signingInput } from '../src/kdf.ts'
import { nodeCrypto } from '../src/node-crypto.ts'
import { hex } from './support/vectors.ts'

const TLS = 'tls13 '
const SHARED_SECRET = hex('8bd4054fb55b9d63fdfbacf9f04b9f0d35e6d63f537563efd46272900f89492d')
const HELLO_HASH = hex('860c06edc07858ee8e78f0e7428c58edd6b43f2ca3e6e95f02ed063cf0e1cad8')
const SERVER_FINISHED_HASH = hex('9608102a0f1ccc6db6250b7b7e417b1a000eaada3daae4777a7686c9ff83df13')
const NOTHING = new Uint8Array(0)

test('SES-1: the key shares of RFC 8448 give its shared secret', () => {
  const client = nodeCrypto.createKeyAgreement(hex('49af42ba7f7994852d713ef2784bcbcaa7911de26adc5642cb634540e7ea5005'))
  expect(toHex(client.publicKey)).toBe('99381de560e4bd43d23d8e435a7dbafeb3c06e51c13cae4d5413691e529aaf2c')
  expect(client.agree(hex('c9828876112095fe66762bdbf7c672e156d6cc253b833df1dd69b1b04e751f0f'))).toEqual(SHARED_SECRET)
})

test('SES-1: the schedule yields the secrets of RFC 8448', () => {
  const secrets = deriveHandshakeSecrets(nodeCrypto, SHARED_SECRET, HELLO_HASH, TLS)
  expect(toHex(secrets.handshakeSecret)).toBe('1dc826e93606aa6fdc0aadc12f741b01046aa6b99f691ed221a9f0ca043fbeac')
  expect(toHex(secrets.clientHandshake)).toBe('b3eddb126e067f35a780b3abf45e2d8f3b1a950738f52e9600746a0e27a55a21')
  expect(toHex(secrets.serverHandshake)).toBe('b67b7d690cc16c4e75e54213cb2d37b4e9c912bcded9105d42befd59d391ad38')
  const masterSecret = deriveMasterSecret(nodeCrypto, secrets.handshakeSecret, TLS)
  expect(toHex(masterSecret)).toBe('18df06843d13a08bf2a449844c5f8a478001bc4d4c627984d5a41da8d0402919')
  const traffic = deriveTrafficSecrets(nodeCrypto, masterSecret, SERVER_FINISHED_HASH, TLS)
  expect(toHex(traffic.clientTraffic)).toBe('9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5')
  expect(toHex(traffic.serverTraffic)).toBe('a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643')
})

test('SES-1: keys, nonces and the Finished MAC are those of RFC 8448', () => {
  const { clientHandshake, serverHandshake } = deriveHandshakeSecrets(nodeCrypto, SHARED_SECRET, HELLO_HASH, TLS)
  const expand = (secret: Uint8Array, label: string, length: number) =>
    toHex(kdf(nodeCrypto, secret, label, NOTHING, length, TLS))
  expect(expand(serverHandshake, 'key', 16)).toBe('3fce516009c21727d0f2e4e86ee403bc')
  expect(expand(serverHandshake, 'iv', 12)).toBe('5d313eb2671276ee13000b30')
  expect(expand(clientHandshake, 'key', 16)).toBe('dbfaa693d1762c5b666af5d950258d01')
  expect(expand(clientHandshake, 'iv', 12)).toBe('5bd3c71b836e0b76bb73265f')
  expect(expand(serverHandshake, 'finished', 32)).toBe(
    '008d3b66f816ea559f96b537e885c31fc068bf492c652f01f288a1d8cdc19fc8',
  )
  const transcriptHash = hex('edb7725fa7a3473b031ec8ef65a2485493900138a2b91291407d7951a06110ed')
  expect(toHex(finishedMac(nodeCrypto, serverHandshake, transcriptHash, TLS))).toBe(
    '9b9b141d906337fbd2cbdce71df4deda4ab42c309572cb7fffee5454b78f0718',
  )
})

test('CRY-4: hashes and signatures carry their domain', () => {
  const message = encodeUtf8('m')
  const domain = encodeUtf8('valise event\0')
  expect(hashWithContext(nodeCrypto, 'event', message)).toEqual(nodeCrypto.sha256(concatBytes(domain, message)))
  const spaces = encodeUtf8(' '.repeat(64))
  expect(signingInput('event', message)).toEqual(concatBytes(spaces, domain, message))
})

test('CRY-4: the default prefix of labels is ours', () => {
  const secret = new Uint8Array(32).fill(1)
  expect(kdf(nodeCrypto, secret, 'key', NOTHING)).toEqual(kdf(nodeCrypto, secret, 'key', NOTHING, 32, 'valise '))
  expect(kdf(nodeCrypto, secret, 'key', NOTHING)).not.toEqual(kdf(nodeCrypto, secret, 'key', NOTHING, 32, TLS))
})
