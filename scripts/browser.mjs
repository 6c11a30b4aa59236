// A real browser for the tests of pages: Chromium from this machine, or from Debian's packages when it is missing.
import { join } from 'node:path'
import { foldersOnPathWith } from './command.mjs'
import { installDebianPackage } from './provision.mjs'

/** No sandbox for root, no graphics card, and none of the browser's own talk with the network. */
export const browserFlags = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
]

/** The program's path. Throws when it cannot be had. */
export function provideBrowser() {
  const found = findBrowser()
  if (found !== undefined) return found
  const reason = installDebianPackage('chromium')
  const installed = reason === undefined ? findBrowser() : undefined
  if (installed !== undefined) return installed
  throw new Error(`no browser for the tests: chromium is not on PATH, and apt-get: ${reason ?? 'brought none'}`)
}

function findBrowser() {
  for (const name of ['chromium', 'chromium-browser', 'google-chrome']) {
    const [folder] = foldersOnPathWith(name)
    if (folder !== undefined) return join(folder, name)
  }
  return undefined
}
