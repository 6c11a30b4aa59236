// The configuration as it is shown: sources, masked secrets, and variables that are none.

import { expect, test } from 'vitest'
import { describeConfig, parseConfig } from '../src/config.ts'
import { maskValue } from '../src/config-report.ts'
import { VARIABLES } from '../src/config-variables.ts'

test('SEE-6: every variable is there, with its value and where that came from', () => {
  const { variables } = describeConfig({ PORT: '1234' }, { PORT: '1', VALISE_POOL_SIZE: '9', ADMIN_HOST: '' })
  expect(variables.map(({ name }) => name)).toEqual(Object.keys(VARIABLES))
  const of = (wanted: string) => variables.find(({ name }) => name === wanted)
  expect(of('PORT')).toMatchObject({ value: '1234', source: 'flag', problem: undefined })
  expect(of('VALISE_POOL_SIZE')).toMatchObject({ value: '9', source: 'environment' })
  expect(of('ADMIN_HOST')).toMatchObject({ value: '127.0.0.1', source: 'default' })
  expect(of('DATABASE_URL')).toMatchObject({ value: undefined, source: 'default', problem: undefined })
})

test('SEE-6: a value that cannot be used is told with the form it wants, all of them at once', () => {
  const { variables } = describeConfig({}, { PORT: 'high', VALISE_POOL_SIZE: '1', DATABASE_URL: 'mysql://u:plum@h' })
  const problems = variables.filter(({ problem }) => problem !== undefined)
  expect(problems.map(({ name }) => name)).toEqual(['PORT', 'DATABASE_URL', 'VALISE_POOL_SIZE'])
  expect(JSON.stringify(variables)).not.toContain('plum')
})

test.each([
  ['DATABASE_URL', 'postgres://user:plum@host:1/db'],
  ['DATABASE_URL', 'postgres://host/db?user=u&password=plum'],
  ['DATABASE_URL', 'postgresql://host/db?sslkey=plum&sslcert=plum'],
  ['REDIS_URL', 'rediss://:plum@host'],
  ['REDIS_URL', 'unix://user:plum@/path'],
  ['REDIS_URL', 'redis://user:pl@um:plum@host:notaport'],
  ['VALISE_SOME_TOKEN', 'plum'],
  ['VALISE_SOME_PASSWORD', 'plum'],
])('SEE-6: %s never shows what is secret in it: %s', (name, value) => {
  expect(maskValue(name, value)).not.toContain('plum')
  expect(maskValue(name, value)).toContain('***')
})

test('SEE-6: what is not secret is shown as it is', () => {
  expect(maskValue('DATABASE_URL', 'postgres://user@host:5432/db?application_name=x')).toBe(
    'postgres://user@host:5432/db?application_name=x',
  )
  expect(maskValue('VALISE_DATA_DIR', '/var/lib/valise')).toBe('/var/lib/valise')
})

test('SEE-6: a variable that begins like ours and is none is told, with the nearest one', () => {
  const environment = {
    VALISE_LOG_LVL: 'x',
    VALISE_PORT: '1',
    VALISE_DATABASE_URL: 'x',
    VALISE_SOMETHING_ELSE_ENTIRELY: 'x',
    'VALISE_\u001b[2J': 'x',
    VALISE_HOME: 'x',
    VALISE_TEST_REDIS_URL: 'x',
    VALISE_POOL_SIZE: '3',
    REDIS_URI: 'x',
    PATH: 'x',
  }
  const { unknownVariables } = parseConfig({}, environment)
  expect(unknownVariables).toEqual([
    { name: 'VALISE_??2J', nearest: undefined },
    { name: 'VALISE_DATABASE_URL', nearest: 'DATABASE_URL' },
    { name: 'VALISE_LOG_LVL', nearest: 'VALISE_LOG_LEVEL' },
    { name: 'VALISE_PORT', nearest: 'PORT' },
    { name: 'VALISE_SOMETHING_ELSE_ENTIRELY', nearest: undefined },
  ])
})

test('P5: a thousand of them are not a thousand lines', () => {
  const environment = Object.fromEntries(
    Array.from({ length: 1000 }, (_, n) => [`VALISE_X${n}${'y'.repeat(5000)}`, 'x']),
  )
  const { unknownVariables } = parseConfig({}, environment)
  expect(unknownVariables).toHaveLength(50)
  expect(unknownVariables[0]?.name).toHaveLength(100)
})
