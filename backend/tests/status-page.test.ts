// The status page in a real browser, beside a server that works: it shows what is scraped, asks nobody else, says no word
// of trouble in the console, and can be read in light and dark, on a desk and on a phone.

import { type Browser, chromium, type Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { browserFlags, provideBrowser } from '../../scripts/browser.mjs'
import { findCrampedTexts, findFaintTexts, frameOf, hasCommits, hasText, widthOf } from './status-page/in-page.js'
import { createAccount, type TestDevice } from './support/account.ts'
import type { RawSession } from './support/raw-device.ts'
import { startTestServer, type TestServer } from './support/server.ts'

/** Installing the browser the first time takes longer than any test. */
const INSTALL_DEADLINE_MS = 300_000
const WAIT_MS = 30_000
const WIDTHS = { desk: 1280, phone: 390 } as const

let browser: Browser
let server: TestServer
let device: TestDevice
let writer: RawSession
let reader: RawSession
let stopLoad: () => Promise<void>

beforeAll(async () => {
  browser = await chromium.launch({ executablePath: provideBrowser(), args: browserFlags })
  server = await startTestServer({ database: 'postgres' })
  const account = await createAccount(server, { devices: 2 })
  device = account.devices[0]!
  writer = await device.connect(server, { cursor: 0 })
  reader = await account.devices[1]!.connect(server, { cursor: 0 })
  // Figures as wide as they get.
  server.app.metrics.log.observeCommit(29_999)
  server.app.metrics.delivery.observeRelay(29_999)
  server.app.metrics.log.countStored(12_345_678)
  for (let n = 0; n < 12_345; n++) {
    server.app.metrics.gateway.countSessionRotation('age')
    server.app.metrics.delivery.countReplay()
  }
  stopLoad = startLoad()
}, INSTALL_DEADLINE_MS)

afterAll(async () => {
  await stopLoad?.()
  await server?.close()
  await browser?.close()
})

/** One event after another, each when the one before has its receipt and has arrived. */
function startLoad(): () => Promise<void> {
  let isOn = true
  const load = (async () => {
    for (let sent = 1; isOn; sent++) {
      writer.publish([(await device.seal('notes')).wire])
      await writer.until('a receipt', () => writer.receipts.length === sent)
      await reader.until('the event', () => reader.events.length === sent)
    }
  })()
  return async () => {
    isOn = false
    await load
  }
}

interface Opened {
  readonly page: Page
  /** Words in the console, errors, and requests that went elsewhere or failed. */
  readonly complaints: string[]
}

async function open(options: { width: number; scheme: 'light' | 'dark' }): Promise<Opened> {
  const { width, scheme } = options
  const { adminUrl } = server.app
  const page = await browser.newPage({ viewport: { width, height: 900 }, colorScheme: scheme })
  page.setDefaultTimeout(WAIT_MS)
  const complaints: string[] = []
  page.on('console', (message) => complaints.push(`console: ${message.text()}`))
  page.on('pageerror', (error) => complaints.push(`error: ${error.message}`))
  page.on('response', (response) => {
    if (response.status() !== 200) complaints.push(`${response.status()} of ${response.url()}`)
  })
  page.on('request', (request) => {
    if (!request.url().startsWith(`${adminUrl}/`)) complaints.push(`asked ${request.url()}`)
  })
  await page.goto(adminUrl)
  await page.waitForSelector('#state[data-state="ready"]')
  return { page, complaints }
}

const textOf = (page: Page, selector: string): Promise<string> =>
  page.locator(selector).evaluate((element) => element.textContent ?? '')

describe('SEE-2: the status page', () => {
  test('SEE-2: it shows the numbers that are scraped', async () => {
    const { page, complaints } = await open({ width: WIDTHS.desk, scheme: 'light' })
    await page.waitForFunction(hasCommits)
    expect(await textOf(page, '[data-figure=connections]')).toMatch(/^2\b/)
    expect(await textOf(page, '[data-figure=events_per_s]')).not.toMatch(/^0 /)
    expect(await textOf(page, '#facts')).toContain('PostgreSQL')
    expect(await page.locator('#large .plot path.first').first().getAttribute('d')).toMatch(/^M[\d.]+ [\d.]+/)

    await stopLoad()
    const stored = await server.app.metrics.read('valise_events_stored_total')
    expect(stored).toBeGreaterThan(10)
    const said = `${new Intl.NumberFormat('en-GB').format(stored)} stored in all`
    await page.waitForFunction(hasText, said)
    expect(complaints).toEqual([])
    await page.close()
    stopLoad = async () => {}
  })

  test('SEE-2: what is refused is shown by its code, with what it means', async () => {
    const { page, complaints } = await open({ width: WIDTHS.desk, scheme: 'dark' })
    const aside = await device.sealAside('notes', { header: { deviceSeq: 1_000_000 } })
    writer.publish([aside.wire])
    await page.waitForSelector('#errors:not([hidden])')
    const row = await textOf(page, '#errors tbody tr')
    expect(row).toContain('device_seq_gap')
    expect(row).toContain('device_seq must continue the stored one')
    expect(complaints).toEqual([])
    await page.close()
  })

  for (const scheme of ['light', 'dark'] as const) {
    test(`SEE-2: every text stands out in ${scheme}, and nothing is wider than a phone`, async () => {
      const { page, complaints } = await open({ width: WIDTHS.phone, scheme })
      expect(await page.evaluate(findFaintTexts)).toEqual([])
      expect(await page.evaluate(widthOf)).toBe(WIDTHS.phone)
      await page.setViewportSize({ width: 320, height: 700 })
      expect(await page.evaluate(widthOf)).toBe(320)
      expect(complaints).toEqual([])
      await page.close()
    })
  }

  test('SEE-2: every text fits its place and covers no other, however wide the page and its figures', async () => {
    const { page } = await open({ width: WIDTHS.desk, scheme: 'light' })
    await page.waitForFunction(hasText, new Intl.NumberFormat('en-GB').format(12_345))
    for (const width of [WIDTHS.desk, 1000, 700, WIDTHS.phone, 320]) {
      await page.setViewportSize({ width, height: 900 })
      expect(await page.evaluate(findCrampedTexts), `${width} pixels`).toEqual([])
      expect(await page.evaluate(widthOf), `${width} pixels`).toBe(width)
    }
    await page.close()
  })

  test('SEE-2: the check of texts finds one that does not fit, and one that is covered', async () => {
    const { page } = await open({ width: WIDTHS.desk, scheme: 'light' })
    const spoil = (selector: string, property: string, value: string): Promise<void> =>
      page
        .locator(selector)
        .first()
        .evaluate((element, [name, to]) => element.style.setProperty(name, to), [property, value] as const)
    await spoil('.note', 'white-space', 'nowrap')
    await spoil('.note', 'width', '3rem')
    await spoil('.figures', 'justify-content', 'flex-start')
    await spoil('.figures', 'margin-left', '-4rem')
    const [tooWide, covered] = await page.evaluate(findCrampedTexts)
    expect(tooWide).toContain('0 behind, 0 not read')
    expect(covered).toContain('Connections')
    await page.close()
  })

  test('SEE-2: the check of colours finds a text that is faint', async () => {
    const { page } = await open({ width: WIDTHS.desk, scheme: 'light' })
    await page.locator('h1').evaluate((heading) => heading.style.setProperty('color', '#ccc'))
    expect(await page.evaluate(findFaintTexts)).toEqual([expect.stringContaining('Valise')])
    await page.close()
  })

  test('SEE-3: a page of another site can neither read the numbers nor show this page in a frame', async () => {
    const page = await browser.newPage()
    await page.route('http://elsewhere.example/', (route) =>
      route.fulfill({ contentType: 'text/html', body: '<!doctype html><title>elsewhere</title>' }),
    )
    await page.goto('http://elsewhere.example/')
    const readIt = (url: string): Promise<string> =>
      fetch(url).then(
        (response) => response.text(),
        () => 'refused',
      )
    for (const path of ['/status.json', '/metrics', '/ready']) {
      expect(await page.evaluate(readIt, `${server.app.adminUrl}${path}`), path).toBe('refused')
    }
    const frame = await page.evaluate(frameOf, server.app.adminUrl)
    expect(frame).toBe('out of reach')
    const [, framed] = page.frames()
    expect(framed?.url()).not.toBe(`${server.app.adminUrl}/`)
    await page.close()
  })

  test('SEE-2: when the server is gone the page says so, and keeps what it heard last', async () => {
    const { page } = await open({ width: WIDTHS.desk, scheme: 'light' })
    await server.stop()
    await page.waitForSelector('#state[data-state="away"]')
    expect(await textOf(page, '#remarks')).toContain('has not answered')
    expect(await textOf(page, '[data-figure=connections]')).toMatch(/^[0-9]/)
    await page.close()
  })
})
