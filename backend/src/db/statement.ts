// A prepared statement, and what kind of operation it counts as in `database_queries_total`.

export const OPERATIONS = ['select', 'insert', 'update', 'delete', 'transaction', 'other'] as const
export type Operation = (typeof OPERATIONS)[number]

export interface Statement {
  /** The name it is prepared and logged under; a text never changes under its name. Empty: not prepared. */
  readonly name: string
  readonly text: string
  /** What it does, where its text does not say: a `select` of a function that writes. */
  readonly operation?: Operation
}

const operationByStatement = new WeakMap<Statement, Operation>()

export function operationOf(statement: Statement): Operation {
  const known = operationByStatement.get(statement)
  if (known !== undefined) return known
  const operation = statement.operation ?? operationOfText(statement.text)
  operationByStatement.set(statement, operation)
  return operation
}

const WRITES = ['insert', 'update', 'delete'] as const
const TRANSACTION_WORDS = new Set(['begin', 'start', 'commit', 'end', 'rollback', 'abort', 'savepoint', 'release'])

/** A statement that begins with `with` is what it does to the tables: a write anywhere in it, else a select. */
export function operationOfText(text: string): Operation {
  const bare = text
    .replace(/--[^\n]*|\/\*[\s\S]*?\*\//g, ' ')
    .replace(/'(?:[^']|'')*'/g, "''")
    .toLowerCase()
    .replace(/\bfor\s+(?:no\s+key\s+)?update\b/g, ' ')
  const first = /^[\s(]*([a-z]+)/.exec(bare)?.[1] ?? ''
  if (TRANSACTION_WORDS.has(first)) return 'transaction'
  if (first === 'select' || first === 'values' || first === 'table') return 'select'
  if (first === 'with') return writeAmong(bare) ?? 'select'
  return WRITES.find((write) => write === first) ?? 'other'
}

/** The write of the statement proper, which stands last and outside parentheses, before those of its `with` parts. */
function writeAmong(text: string): Operation | undefined {
  let depth = 0
  let inner: Operation | undefined
  for (const [token, word] of text.matchAll(
    /[()]|\b(insert|update|delete)\b(?=\s+(?:into\b|from\b|only\b|[a-z_"]))/g,
  )) {
    if (token === '(') depth++
    else if (token === ')') depth--
    else {
      const write = WRITES.find((candidate) => candidate === word)
      if (depth === 0) return write
      inner ??= write
    }
  }
  return inner
}
