// What a command of the operator is: input, output, and the work between on a database.

import type { z } from 'zod'
import type { Database } from '../db/database.ts'

export interface AdminCommand<Input, Output> {
  readonly name: string
  /** What it is given and what it answers both may pass through HTTP. */
  readonly input: z.ZodType<Input>
  readonly output: z.ZodType<Output>
  run(db: Database, input: Input): Promise<Output>
}
