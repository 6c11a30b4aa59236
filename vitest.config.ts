import { defineConfig } from 'vitest/config'

export default defineConfig({
  resolve: { conditions: ['source'] },
  ssr: { resolve: { conditions: ['source'] } },
  test: {
    include: ['{protocol,backend,client,cli}/tests/**/*.test.ts', 'tests/**/*.test.ts'],
    // Real servers, databases and processes on a shared machine: what fails once runs once more, and the report says so.
    retry: 1,
    testTimeout: 60_000,
    hookTimeout: 60_000,
    maxWorkers: 2,
  },
})
