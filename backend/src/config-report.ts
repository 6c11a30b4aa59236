// The configuration as an operator is shown it: every variable with its value, where that came from and what it means;
// and variables that look like ours and are none. Nothing here shows a password.

import { distance } from 'fastest-levenshtein'
import { VARIABLES, type Variable } from './config-variables.ts'

export interface VariableReport {
  readonly name: Variable
  /** As it may be shown: passwords and the like are masked. Undefined: not set, and without a default. */
  readonly value: string | undefined
  readonly source: 'flag' | 'environment' | 'default'
  readonly meaning: string
  /** Why it cannot be used: the form it wants. */
  readonly problem: string | undefined
}

export interface UnknownVariable {
  readonly name: string
  /** The variable it may have been meant for. */
  readonly nearest: Variable | undefined
}

type RawValues = Readonly<Record<string, string | undefined>>

const PREFIX = 'VALISE_'
/** Of the command line, and of this repository's tests. */
const OTHERS_OF_OURS = /^VALISE_(HOME$|TEST_)/
/** More is no slip of a finger; of a short name, less than half. */
const MAX_DISTANCE = 5
const MAX_DISTANCE_SHARE = 0.4
const MAX_UNKNOWN = 50
const MAX_NAME_LENGTH = 100

export function reportVariables(flags: RawValues, environment: RawValues): VariableReport[] {
  return variableNames().map((name) => {
    const { schema, fallback, meaning } = VARIABLES[name]
    const source = flags[name] ? 'flag' : environment[name] ? 'environment' : 'default'
    const raw = flags[name] || environment[name] || fallback
    const parsed = schema.optional().safeParse(raw)
    const problem = parsed.success ? undefined : (parsed.error.issues[0]?.message ?? 'not valid')
    return { name, value: raw === undefined ? undefined : maskValue(name, raw), source, meaning, problem }
  })
}

/** Variables of the environment with our prefix that mean nothing to us, in order of their names. */
export function findUnknownVariables(environment: RawValues): UnknownVariable[] {
  const known = variableNames()
  return Object.keys(environment)
    .filter((name) => name.startsWith(PREFIX) && !Object.hasOwn(VARIABLES, name) && !OTHERS_OF_OURS.test(name))
    .sort()
    .slice(0, MAX_UNKNOWN)
    .map((name) => ({ name: printable(name), nearest: nearestOf(name, known) }))
}

function nearestOf(name: string, known: readonly Variable[]): Variable | undefined {
  const shortened = name.slice(0, MAX_NAME_LENGTH)
  const ranked = known
    // A prefix too many or too few is a slip of its own.
    .map((candidate) => ({
      candidate,
      away: Math.min(distance(shortened, candidate), distance(shortened.slice(PREFIX.length), candidate) + 1),
    }))
    .sort((one, other) => one.away - other.away)
  const [best] = ranked
  if (best === undefined) return undefined
  return best.away <= Math.min(MAX_DISTANCE, best.candidate.length * MAX_DISTANCE_SHARE) ? best.candidate : undefined
}

const printable = (text: string): string => text.slice(0, MAX_NAME_LENGTH).replace(/[^A-Za-z0-9_]/g, '?')

const SECRET_NAME = /PASSWORD|SECRET|TOKEN|CREDENTIAL|HEADERS|PRIVATE/
const SECRET_PARAMETER = /pass|secret|token|key|cert/i
const MASK = '***'

/** A URL without its password; one that cannot be read is not shown beyond its scheme. */
export function maskValue(name: string, value: string): string {
  if (SECRET_NAME.test(name)) return MASK
  const scheme = /^([a-z][a-z0-9+.-]*:\/\/)/i.exec(value)?.[1]
  if (scheme === undefined) return value
  if (!URL.canParse(value)) return `${scheme}${MASK}`
  const url = new URL(value)
  if (url.password !== '') url.password = MASK
  for (const parameter of [...url.searchParams.keys()]) {
    if (SECRET_PARAMETER.test(parameter)) url.searchParams.set(parameter, MASK)
  }
  return url.href
}

const variableNames = (): Variable[] => Object.keys(VARIABLES) as Variable[]
