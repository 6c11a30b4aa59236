// Pages of a real browser against a server on this machine (WEB-1): one of a foreign site, one of this machine, and one
// whose name was pointed at this machine.

import { createServer, type Server } from 'node:http'
import { type Browser, chromium } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { browserFlags, provideBrowser } from '../../scripts/browser.mjs'
import { closeServer, listen } from '../src/http/listen.ts'
import { loadAsImage, tryFetch, tryWebSocket } from './origins/in-page.js'
import { startTestServer, type TestServer } from './support/server.ts'

/** Installing the browser the first time takes longer than any test. */
const INSTALL_DEADLINE_MS = 300_000
const SEAT = { authorization: `Bearer ${'A'.repeat(22)}` }
const MAILBOX = `/v1/mailboxes/${'0'.repeat(32)}/0`
/** Needs a preflight, and says that the reason is none. */
const PAIRING = `/v1/pairings/${'0'.repeat(32)}?reason=x`

let browser: Browser
let server: TestServer
let pages: Server
let pagesPort: number
let port: string

beforeAll(async () => {
  pages = createServer((_request, response) => {
    response.setHeader('Content-Type', 'text/html')
    response.end('<!doctype html><title>A page</title>')
  })
  pagesPort = await listen(pages, 0, '127.0.0.1')
  browser = await chromium.launch({
    executablePath: provideBrowser(),
    args: [...browserFlags, '--host-resolver-rules=MAP evil.example 127.0.0.1'],
  })
  server = await startTestServer({ database: 'postgres' })
  port = new URL(server.url).port
}, INSTALL_DEADLINE_MS)

afterAll(async () => {
  await browser?.close()
  await server?.close()
  await closeServer(pages)
})

async function attempts(pageUrl: string, host: string) {
  const page = await browser.newPage()
  try {
    await page.goto(pageUrl)
    const httpUrl = `http://${host}:${port}`
    return {
      socket: await page.evaluate(tryWebSocket, `ws://${host}:${port}`),
      key: await page.evaluate(tryFetch, { url: `${httpUrl}/.well-known/valise` }),
      mailbox: await page.evaluate(tryFetch, { url: `${httpUrl}${MAILBOX}` }),
      pairing: await page.evaluate(tryFetch, { url: `${httpUrl}${PAIRING}`, method: 'DELETE', headers: SEAT }),
    }
  } finally {
    await page.close()
  }
}

describe('WEB-1: a page in Chromium', () => {
  test('WEB-1: of a foreign site reads nothing and opens no WebSocket', async () => {
    expect(await attempts(`http://evil.example:${pagesPort}`, '127.0.0.1')).toEqual({
      socket: 'closed',
      key: 'blocked',
      mailbox: 'blocked',
      pairing: 'blocked',
    })
  })

  test('WEB-1: of this machine uses the server, preflights and all', async () => {
    expect(await attempts(`http://localhost:${pagesPort}`, '127.0.0.1')).toEqual({
      socket: 'open',
      key: '200',
      mailbox: '404',
      pairing: '400',
    })
  })

  test('WEB-1: of a foreign site whose name was pointed at this machine is refused by its Host', async () => {
    expect(await attempts(`http://evil.example:${port}/`, 'evil.example')).toEqual({
      socket: 'closed',
      key: '403',
      mailbox: '403',
      pairing: '403',
    })
  })

  test('WEB-1: of a foreign site uses up no limit with images', async () => {
    const page = await browser.newPage()
    await page.goto(`http://evil.example:${pagesPort}`)
    const code = { code: 'foreign_origin' }
    const before = await server.app.metrics.read('valise_http_foreign_requests_total', code)
    await page.evaluate(loadAsImage, `http://127.0.0.1:${port}${MAILBOX}`)
    expect(await server.app.metrics.read('valise_http_foreign_requests_total', code)).toBe((before ?? 0) + 1)
    await page.close()
  })
})
