// Linux's own table of connections: how many bytes the other side of each has not yet acknowledged. No socket option
// that Node offers tells it.

import { readFile } from 'node:fs/promises'

/** Bytes in the kernel that the other side has not acknowledged, by the inode of the socket; none: not listed. */
export type UnacknowledgedBytes = ReadonlyMap<string, number>

const TABLES = ['/proc/self/net/tcp', '/proc/self/net/tcp6']
/** Its columns are described in Linux's Documentation/networking/proc_net_tcp.rst. */
const ROW = /^ *\d+: \S+ \S+ \S+ ([0-9A-F]+):\S+ \S+ \S+ +\d+ +\d+ (\d+) /gm

export function parseTcpTable(text: string): [inode: string, bytes: number][] {
  return [...text.matchAll(ROW)].map(([, bytes = '', inode = '']) => [inode, Number.parseInt(bytes, 16)])
}

/** Undefined where there is no such table. With 7000 connections: 30 ms, 10 of them on the event loop. */
export async function readTcpTable(): Promise<UnacknowledgedBytes | undefined> {
  const texts = await Promise.all(TABLES.map((file) => readFile(file, 'latin1').catch(() => undefined)))
  if (texts[0] === undefined) return undefined
  return new Map(texts.flatMap((text = '') => parseTcpTable(text)))
}
