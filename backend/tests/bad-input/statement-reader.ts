// What a server asks its database, by name, as it stands on the wire between them.

/** As much of PostgreSQL's protocol as it takes: a message is a letter (the first has none), its length, its body. */
const BIND = 'B'.charCodeAt(0)

/** Takes what one connection sends to PostgreSQL; `onStatement` hears the name of each prepared statement that is run. */
export function createStatementReader(onStatement: (name: string) => void): (chunk: Buffer) => void {
  let rest: Buffer = Buffer.alloc(0)
  let letterBytes = 0
  /** The next whole message, if it is here. */
  const take = (): Buffer | undefined => {
    if (rest.length < letterBytes + 4) return undefined
    const end = letterBytes + rest.readUInt32BE(letterBytes)
    if (rest.length < end) return undefined
    const message = rest.subarray(0, end)
    rest = rest.subarray(end)
    return message
  }
  return (chunk) => {
    rest = Buffer.concat([rest, chunk])
    for (let message = take(); message !== undefined; message = take()) {
      const isBind = letterBytes === 1 && message[0] === BIND
      letterBytes = 1
      if (!isBind) continue
      // A portal's name, then the statement's, each with a zero behind it.
      const nameAt = message.indexOf(0, 5) + 1
      onStatement(message.toString('latin1', nameAt, message.indexOf(0, nameAt)))
    }
  }
}
