// Reads a DATABASE_URL: one host, or several of which one takes writes, as libpq writes them
// (`postgres://user@a:5432,b:5432/name?target_session_attrs=read-write`). `pg` knows one host only, so each gets a URL.

export type ParsedDatabaseUrl =
  /** One URL a host, in the order given. */
  | { readonly ok: true; readonly urls: readonly string[] }
  /** What is wrong and what to write instead. Never holds a part of the URL, which may be a password. */
  | { readonly ok: false; readonly problem: string }

/** Scheme, user and password, hosts, and the rest. A password with a raw `@` stays in the second part. */
const PARTS = /^(postgres(?:ql)?:\/\/)([^/?#]*@)?([^/?#@]*)([/?#].*)?$/
const TARGET = /([?&])target_session_attrs=([^&#]*)(&?)/
/** The server needs a primary whatever is written here. */
const TARGETS = ['any', 'read-write', 'primary']
const MAX_HOSTS = 16

const ENCODE = 'percent-encode special characters in user and password, for example %40 for @ and %2F for /'

export function parseDatabaseUrl(text: string): ParsedDatabaseUrl {
  const parts = PARTS.exec(text)
  if (parts === null) return { ok: false, problem: `is no valid URL; ${ENCODE}` }
  const [, scheme = '', account = '', hosts = '', rest = ''] = parts
  const target = TARGET.exec(rest)?.[2]
  if (target !== undefined && !TARGETS.includes(target)) {
    return { ok: false, problem: 'has another target_session_attrs than read-write; the server has to write' }
  }
  const restForPg = rest.replace(TARGET, (_, start: string, __, more: string) => (more === '' ? '' : start))
  const names = hosts.split(',')
  if (names.length > MAX_HOSTS) return { ok: false, problem: `names more than ${MAX_HOSTS} hosts` }
  if (names.length > 1 && names.includes('')) return { ok: false, problem: 'has an empty host between its commas' }
  const urls = names.map((host) => `${scheme}${account}${host}${restForPg}`)
  // An empty host stands for a socket's folder in `?host=`; `URL` wants a name there when a user is given.
  const isValid = names.every((host) => URL.canParse(`${scheme}${account}${host || 'socket'}${restForPg}`))
  if (!isValid || (account.match(/@/g) ?? []).length > 1) return { ok: false, problem: `is no valid URL; ${ENCODE}` }
  return { ok: true, urls }
}
