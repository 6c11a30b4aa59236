// The files of the status page, in the folder beside the sources, read once. All of them are ours: the page asks for
// nothing from elsewhere, and its policy lets it.

import { readFile } from 'node:fs/promises'

export interface PageFile {
  readonly contentType: string
  readonly body: Buffer
}

const FOLDER = new URL('../../status-page/', import.meta.url)
const START = 'index.html'
const SCRIPTS = ['page.js', 'cards.js', 'card.js', 'plot.js', 'errors.js', 'elements.js', 'words.js']
const CONTENT_TYPES: ReadonlyMap<string, string> = new Map([
  [START, 'text/html; charset=utf-8'],
  ...SCRIPTS.map((name) => [name, 'text/javascript; charset=utf-8'] as const),
  ['style.css', 'text/css; charset=utf-8'],
  ['icon.svg', 'image/svg+xml'],
])

/** By path. Rejects when one is missing: an installation that is not whole. */
export async function readStatusPage(): Promise<ReadonlyMap<string, PageFile>> {
  const entries = [...CONTENT_TYPES].map(async ([name, contentType]) => {
    const path = name === START ? '/' : `/status-page/${name}`
    return [path, { contentType, body: await readFile(new URL(name, FOLDER)) }] as const
  })
  return new Map(await Promise.all(entries))
}

export const PAGE_HEADERS: Readonly<Record<string, string>> = {
  'Content-Security-Policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Resource-Policy': 'same-origin',
  'Referrer-Policy': 'no-referrer',
  'X-Content-Type-Options': 'nosniff',
  'X-Frame-Options': 'DENY',
}
