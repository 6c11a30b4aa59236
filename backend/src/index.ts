// The one door of the backend package.

export { type App, type AppOverrides, startApp } from './app.ts'
export { type Config, ConfigError, parseConfig, type RawConfig, variableMeanings } from './config.ts'
export type { Variable } from './config-variables.ts'
export { shouldRotateKeys } from './gateway/session-rotation.ts'
export { runServer } from './main.ts'
