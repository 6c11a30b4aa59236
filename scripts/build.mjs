// `npm run build`: packages and TypeScript up to date.
import { prepare } from './prepare.mjs'

try {
  prepare()
} catch (error) {
  console.error(error.message)
  process.exitCode = 1
}
