// What a client tells its operator: structured entries without secrets. Writing them is the application's.

export interface ClientLogEntry {
  readonly level: 'debug' | 'info' | 'warn' | 'error'
  /** area.noun.verb */
  readonly event: string
  readonly [field: string]: unknown
}

export type ClientLog = (entry: ClientLogEntry) => void

export const noLog: ClientLog = () => {}
