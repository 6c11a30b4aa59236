// What the doctor says of one thing: that it is well, worth knowing, or wrong and how to mend it. In plain words, and
// never with a secret.

export type Area = 'configuration' | 'machine' | 'files' | 'database' | 'redis' | 'server'

export type Finding =
  | { readonly area: Area; readonly status: 'ok'; readonly text: string }
  /** Works, and may not be what is wanted. */
  | { readonly area: Area; readonly status: 'note'; readonly text: string; readonly remedy: string }
  | { readonly area: Area; readonly status: 'wrong'; readonly text: string; readonly remedy: string }

export interface Findings {
  ok(text: string): Finding
  note(text: string, remedy: string): Finding
  wrong(text: string, remedy: string): Finding
}

export const findingsOf = (area: Area): Findings => ({
  ok: (text) => ({ area, status: 'ok', text }),
  note: (text, remedy) => ({ area, status: 'note', text, remedy }),
  wrong: (text, remedy) => ({ area, status: 'wrong', text, remedy }),
})

export const messageOf = (error: unknown): string => (error instanceof Error ? error.message : 'unknown error')

export const codeOf = (error: unknown): string | undefined =>
  error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined
