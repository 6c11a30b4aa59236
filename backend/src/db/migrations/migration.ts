// What a migration is. Frozen once released: a database remembers its checksum.

export interface Migration {
  readonly number: number
  readonly name: string
  /** Run one by one. */
  readonly statements: readonly string[]
}
