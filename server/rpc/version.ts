/**
 * The etcd version this server announces as its protocol level. Purely numeric: Patroni splits it at
 * the dots into integers, and kube-apiserver turns features on by it.
 */
export const ETCD_VERSION = '3.6.6';
export const ETCD_CLUSTER_VERSION = '3.6.0';
