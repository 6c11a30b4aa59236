// Why a device's home folder cannot be used, in words fit to show.

export type DeviceHomeErrorCode = 'in_use' | 'unusable' | 'unsafe_permissions' | 'damaged'

export class DeviceHomeError extends Error {
  readonly code: DeviceHomeErrorCode

  constructor(code: DeviceHomeErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'DeviceHomeError'
    this.code = code
  }
}
