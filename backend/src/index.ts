// The one door of the backend package.

export { type App, type AppOverrides, startApp } from './app.ts'
export { type Config, ConfigError, parseConfig, type RawConfig, type Variable, variableMeanings } from './config.ts'
export { shouldRotateKeys } from './gateway/session-rotation.ts'
export { runServer } from './main.ts'
