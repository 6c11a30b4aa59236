// The room left on the disk of a folder: one system call, made when somebody asks.

import { statfsSync } from 'node:fs'

/** Bytes that an unprivileged process may still write; NaN, which Prometheus keeps as no number, when it cannot be told. */
export function freeBytesOf(folder: string): number {
  try {
    const { bavail, bsize } = statfsSync(folder)
    return bavail * bsize
  } catch {
    return Number.NaN
  }
}
