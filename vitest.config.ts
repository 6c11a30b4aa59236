import { defineConfig } from 'vitest/config'

export default defineConfig({
  resolve: { conditions: ['source'] },
  ssr: { resolve: { conditions: ['source'] } },
  test: {
    include: ['{protocol,backend,client,cli}/tests/**/*.test.ts', 'tests/**/*.test.ts'],
    // The main job runs once, on a machine that others share: there, and only there, what fails runs once more, and the
    // report says so.
    retry: process.env['CI'] === undefined ? 0 : 1,
    testTimeout: 60_000,
    hookTimeout: 60_000,
    maxWorkers: 2,
  },
})
