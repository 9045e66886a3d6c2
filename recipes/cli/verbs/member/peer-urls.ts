import { InvalidArgumentError } from 'commander';

/** Where other members reach a member: `http://host:port`, several with commas between. */
export function peerUrlsOption(text: string): readonly string[] {
  const urls = text.split(',');
  for (const url of urls) {
    const parsed = URL.canParse(url) ? new URL(url) : undefined;
    const isPlain = parsed?.pathname === '/' && parsed.search === '' && parsed.hash === '';
    if (parsed?.protocol === 'https:') {
      throw new InvalidArgumentError(
        `Members speak http with each other, without TLS: not '${url}', but http://host:port.`,
      );
    }
    if (!isPlain || parsed.protocol !== 'http:' || !/:\d+\/?$/.test(url)) {
      throw new InvalidArgumentError(
        `It must be addresses as http://host:port, with commas between; '${url}' is not one.`,
      );
    }
  }
  return urls.map((url) => url.replace(/\/$/, ''));
}
