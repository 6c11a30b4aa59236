// Who may use the public port, case by case: where it listens, what is listed, what a request says, and the answer.

import type { RawConfig } from '../../src/config.ts'
import type { OriginHeaders } from '../../src/http/origins.ts'

export interface OriginCase {
  readonly says: string
  readonly headers: OriginHeaders
  /** 'page' may read the answer; 'nobody' asks as a page. */
  readonly answer: 'page' | 'nobody' | 'unknown_host' | 'foreign_origin'
}

export interface OriginSetting {
  readonly says: string
  readonly flags: RawConfig
  readonly cases: readonly OriginCase[]
}

const host = '127.0.0.1:8787'
const pages = (answer: OriginCase['answer'], ...origins: string[]): OriginCase[] =>
  origins.map((origin) => ({ says: `the page ${origin}`, headers: { host, origin }, answer }))
const hosts = (answer: OriginCase['answer'], ...names: string[]): OriginCase[] =>
  names.map((name) => ({ says: `the Host ${name}`, headers: { host: name }, answer }))

const LOCAL_PAGES = [
  'http://localhost',
  'http://localhost:3000',
  'https://app.localhost:8443',
  'http://127.0.0.1:5173',
  'http://127.9.9.9',
  'http://[::1]:3000',
]
const FOREIGN_PAGES = [
  'https://evil.example',
  'http://localhost.evil.example',
  'http://127.0.0.1.evil.example',
  'http://evil.example:8787',
  'http://10.0.0.1:8787',
  'http://notlocalhost',
  'http://evil',
  'null',
  'file://',
  '',
  'http://localhost@evil.example',
  'http://localhost, https://evil.example',
  'localhost',
  'capacitor://localhost',
]
const EMBEDDED: OriginHeaders = { host, 'sec-fetch-site': 'cross-site', 'sec-fetch-dest': 'image' }

export const SETTINGS: readonly OriginSetting[] = [
  {
    says: 'on loopback',
    flags: { HOST: '127.0.0.1' },
    cases: [
      { says: 'a program', headers: { host }, answer: 'nobody' },
      ...pages('page', ...LOCAL_PAGES),
      ...pages('foreign_origin', ...FOREIGN_PAGES),
      ...hosts(
        'nobody',
        'localhost',
        'LocalHost:8787',
        'localhost.',
        'valise.localhost:1',
        '[::1]:8787',
        '10.1.2.3:80',
      ),
      ...hosts('unknown_host', 'evil.example', 'evil.example:8787', 'localhost.evil.example', 'evil', '[evil]', ':1'),
      ...hosts(
        'unknown_host',
        '127.0.0.1@evil.example',
        'evil.example.:1',
        '127.0.0.1:8788:1',
        '127.0.0.1.evil.example',
      ),
      { says: 'no Host', headers: {}, answer: 'unknown_host' },
      {
        says: 'a foreign name that was pointed here, by its own page',
        headers: { host: 'evil.example:8787', origin: 'http://evil.example:8787' },
        answer: 'unknown_host',
      },
      {
        says: 'a local page by a foreign name',
        headers: { host: 'evil.example', origin: 'http://localhost' },
        answer: 'unknown_host',
      },
      { says: 'an image on a foreign page', headers: EMBEDDED, answer: 'foreign_origin' },
      {
        says: 'a link on a foreign page',
        headers: { ...EMBEDDED, 'sec-fetch-dest': 'document' },
        answer: 'nobody',
      },
      {
        says: 'an image on a local page',
        headers: { ...EMBEDDED, 'sec-fetch-site': 'same-site' },
        answer: 'nobody',
      },
    ],
  },
  {
    says: 'on loopback behind a proxy, with origins listed',
    flags: {
      HOST: 'localhost',
      VALISE_ORIGINS: 'https://App.example.org, http://intranet:8080, capacitor://localhost',
    },
    cases: [
      ...pages(
        'page',
        ...LOCAL_PAGES,
        'https://app.example.org',
        'https://app.example.org:443',
        'http://intranet:8080',
      ),
      ...pages('page', 'capacitor://localhost'),
      ...pages('foreign_origin', 'http://app.example.org', 'https://app.example.org:8443', 'https://example.org'),
      ...pages('foreign_origin', 'https://evil.example', 'http://intranet', 'null', 'ionic://localhost'),
      ...hosts('nobody', 'app.example.org', 'APP.example.org:443', 'intranet', 'localhost:8787'),
      ...hosts('unknown_host', 'example.org', 'x.app.example.org'),
    ],
  },
  {
    says: 'on a public address',
    flags: { HOST: '0.0.0.0' },
    cases: [
      { says: 'a program', headers: { host: 'valise.example.org' }, answer: 'nobody' },
      ...pages('page', ...LOCAL_PAGES, 'https://any.example', 'null', 'capacitor://localhost'),
      ...hosts('nobody', 'valise.example.org', 'valise', '10.0.0.1'),
      { says: 'an image on a page', headers: EMBEDDED, answer: 'nobody' },
    ],
  },
  {
    says: 'on a public address, with origins listed',
    flags: { HOST: '0.0.0.0', VALISE_ORIGINS: 'https://app.example.org' },
    cases: [
      { says: 'a program', headers: { host: 'valise.example.org' }, answer: 'nobody' },
      ...pages('page', 'https://app.example.org'),
      ...pages('foreign_origin', ...LOCAL_PAGES, 'https://evil.example', 'http://app.example.org', 'null', ''),
      ...hosts('nobody', 'valise.example.org', 'valise', '10.0.0.1'),
      { says: 'an image on a foreign page', headers: EMBEDDED, answer: 'foreign_origin' },
    ],
  },
]
