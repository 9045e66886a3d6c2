/** What a member serves on its peer URLs. */
import type { Logger } from 'pino';
import { Fault } from '../faults.ts';
import { idToHex } from '../ids.ts';
import { ASK_PATH } from './asker.ts';
import { decodeFrame } from './decode.ts';
import { encodeMembers, MEMBERS_PATH } from './join.ts';
import { APPENDS_PATH, HEARTBEATS_PATH } from './peer-link.ts';
import type { OpenMethod, PeerConnection, PeerMethod } from './peer-server.ts';
import { MalformedFrame } from './protobuf.ts';
import { decodeQuestions, encodeReplies } from './questions.ts';
import type { ServerCall } from './server-call.ts';
import { receiveSnapshot } from './snapshot-receiver.ts';
import { SNAPSHOT_PATH } from './snapshot-sender.ts';
import type { TrafficOf } from './traffic.ts';
import type { Hello, Question, Reply, TransportHandlers } from './transport.ts';

export type PeerMethodsOptions = {
  readonly memberId: bigint;
  readonly handlers: TransportHandlers;
  readonly logger: Logger;
  readonly trafficOf: TrafficOf;
  /** A member has opened the stream of its messages. */
  readonly arrived: (connection: PeerConnection, hello: Hello) => void;
};

export function peerMethods(options: PeerMethodsOptions): {
  readonly methods: ReadonlyMap<string, PeerMethod>;
  readonly openMethods: ReadonlyMap<string, OpenMethod>;
} {
  const { handlers, logger, arrived } = options;
  return {
    methods: new Map<string, PeerMethod>([
      [
        HEARTBEATS_PATH,
        (call, hello, connection) => {
          receiveFrames(call, hello, options);
          arrived(connection, hello);
        },
      ],
      [APPENDS_PATH, (call, hello) => receiveFrames(call, hello, options)],
      [ASK_PATH, (call, { from }) => answerQuestions(call, from, options)],
      [
        SNAPSHOT_PATH,
        (call, hello) => {
          const onError = (error: unknown) =>
            logger.warn({ err: error, peer: idToHex(hello.from) }, 'a snapshot did not arrive');
          receiveSnapshot(call, hello, { handlers, onError });
        },
      ],
    ]),
    openMethods: new Map([
      [
        MEMBERS_PATH,
        (call) => {
          const members = encodeMembers(handlers.members());
          call.accept({});
          call.send(members);
          call.end(0);
        },
      ],
    ]),
  };
}

function receiveFrames(
  call: ServerCall,
  hello: Hello,
  { memberId, handlers, logger, trafficOf }: PeerMethodsOptions,
): void {
  const traffic = trafficOf(hello.from);
  const take = (frame: Buffer) => {
    traffic.receivedBytes += frame.length;
    for (const message of decodeFrame(frame, hello.from, memberId)) {
      if (message.kind === 'snapshot') throw new MalformedFrame('a snapshot without its bytes');
      handlers.receive(message);
    }
  };
  call.read(
    (frame) => {
      try {
        take(frame);
      } catch (error) {
        const what = error instanceof MalformedFrame ? 'was malformed' : 'could not be taken in';
        logger.error({ err: error, peer: idToHex(hello.from) }, `a message of a member ${what}`);
        throw error;
      }
    },
    () => call.end(0),
  );
}

function answerQuestions(
  call: ServerCall,
  from: bigint,
  { handlers, logger }: PeerMethodsOptions,
): void {
  const answer = async (question: Question): Promise<Reply | Fault> => {
    try {
      return await handlers.answer(question, from, call.signal);
    } catch (error) {
      if (error instanceof Fault) return error;
      logger.error({ err: error, kind: question.kind }, 'a question could not be answered');
      return new Fault('timeout');
    }
  };
  call.read(
    async (bytes) => {
      call.send(encodeReplies(await Promise.all(decodeQuestions(bytes).map(answer))));
    },
    () => call.end(0),
  );
}
