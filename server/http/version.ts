/** `/version`: the etcd protocol level, in numbers only, as Patroni and others parse it. */
import { ETCD_CLUSTER_VERSION, ETCD_VERSION } from '../rpc/version.ts';
import { isRead, type MountPoint, sendJson } from './router.ts';

export function mountVersion(at: MountPoint): void {
  at.mount('/version', (request, response) => {
    if (!isRead(request, response)) return;
    sendJson(response, 200, {
      etcdserver: ETCD_VERSION,
      etcdcluster: ETCD_CLUSTER_VERSION,
      storage: ETCD_CLUSTER_VERSION,
    });
  });
}
