/**
 * What an async function does about errors that are thrown at once, for calls that come by the
 * thousand: the frame of an async function would be most of what such a call allocates.
 */
export function promised<T>(work: () => Promise<T>): Promise<T> {
  try {
    return work();
  } catch (error) {
    return Promise.reject(error);
  }
}
