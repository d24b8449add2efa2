// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	provisioner = "agentpool.dev/local-volumes"
	// The scheduler sets it once it has placed the first pod that uses the claim.
	selectedNode  = "volume.kubernetes.io/selected-node"
	provisionedBy = "pv.kubernetes.io/provisioned-by"
)

// provisioning turns claims of our storage class into directories of this node, and released
// volumes back into free space. It is level-based: each round compares all claims and volumes.
type provisioning struct {
	client  kubernetes.Interface
	claims  corelisters.PersistentVolumeClaimLister
	volumes corelisters.PersistentVolumeLister
	class   string
	root    string
	node    string
}

func runLocalVolumes() {
	kubeconfig := flag.String("kubeconfig", "", "how to reach the API server")
	root := flag.String("root", "", "directory that holds one directory per volume")
	class := flag.String("class", "", "storage class whose claims are served")
	node := flag.String("node", "", "name of this node")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		fail(err)
	}
	config.UserAgent = "local-volumes"
	client := kubernetes.NewForConfigOrDie(config)
	factory := informers.NewSharedInformerFactory(client, 10*time.Minute)
	claims := factory.Core().V1().PersistentVolumeClaims()
	volumes := factory.Core().V1().PersistentVolumes()
	p := &provisioning{client, claims.Lister(), volumes.Lister(), *class, *root, *node}

	changed := make(chan struct{}, 1)
	notify := cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { nudge(changed) },
		UpdateFunc: func(any, any) { nudge(changed) },
		DeleteFunc: func(any) { nudge(changed) },
	}
	for _, informer := range []cache.SharedIndexInformer{claims.Informer(), volumes.Informer()} {
		if _, err := informer.AddEventHandler(notify); err != nil {
			fail(err)
		}
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	p.loop(ctx, changed)
}

func nudge(changed chan<- struct{}) {
	select {
	case changed <- struct{}{}:
	default:
	}
}

func (p *provisioning) loop(ctx context.Context, changed <-chan struct{}) {
	backoff := wait.Backoff{Duration: 200 * time.Millisecond, Factor: 2, Steps: 8, Cap: 30 * time.Second}
	retry := backoff
	for {
		var again <-chan time.Time
		if err := p.round(ctx); err != nil {
			fmt.Fprintln(os.Stderr, err)
			again = time.After(retry.Step())
		} else {
			retry = backoff
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-again:
		}
	}
}

// round serves what waits and clears what was released; the first error ends it and is tried again.
func (p *provisioning) round(ctx context.Context) error {
	claims, err := p.claims.List(labels.Everything())
	if err != nil {
		return err
	}
	for _, claim := range claims {
		if p.waits(claim) {
			if err := p.provide(ctx, claim); err != nil {
				return fmt.Errorf("claim %s/%s: %w", claim.Namespace, claim.Name, err)
			}
		}
	}
	volumes, err := p.volumes.List(labels.Everything())
	if err != nil {
		return err
	}
	for _, volume := range volumes {
		if volume.Annotations[provisionedBy] == provisioner && volume.Status.Phase == corev1.VolumeReleased {
			if err := p.clear(ctx, volume.Name); err != nil {
				return fmt.Errorf("volume %s: %w", volume.Name, err)
			}
		}
	}
	return nil
}

func (p *provisioning) waits(claim *corev1.PersistentVolumeClaim) bool {
	ours := claim.Spec.StorageClassName != nil && *claim.Spec.StorageClassName == p.class
	placed := claim.Annotations[selectedNode] == p.node
	return ours && placed && claim.Spec.VolumeName == "" && claim.DeletionTimestamp == nil
}

func (p *provisioning) provide(ctx context.Context, claim *corev1.PersistentVolumeClaim) error {
	name := "pvc-" + string(claim.UID)
	directory := filepath.Join(p.root, name)
	// The kubelet gives it to the pod's fsGroup.
	if err := os.MkdirAll(directory, 0o770); err != nil {
		return err
	}
	volume := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{provisionedBy: provisioner}},
		Spec: corev1.PersistentVolumeSpec{
			AccessModes: claim.Spec.AccessModes,
			Capacity: corev1.ResourceList{
				corev1.ResourceStorage: claim.Spec.Resources.Requests[corev1.ResourceStorage],
			},
			ClaimRef: &corev1.ObjectReference{
				APIVersion: "v1", Kind: "PersistentVolumeClaim",
				Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID,
			},
			NodeAffinity:                  p.onThisNode(),
			PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimDelete,
			PersistentVolumeSource: corev1.PersistentVolumeSource{
				Local: &corev1.LocalVolumeSource{Path: directory},
			},
			StorageClassName: p.class,
			VolumeMode:       claim.Spec.VolumeMode,
		},
	}
	_, err := p.client.CoreV1().PersistentVolumes().Create(ctx, volume, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

func (p *provisioning) onThisNode() *corev1.VolumeNodeAffinity {
	here := corev1.NodeSelectorRequirement{
		Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{p.node},
	}
	terms := []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{here}}}
	return &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: terms}}
}

func (p *provisioning) clear(ctx context.Context, name string) error {
	if err := os.RemoveAll(filepath.Join(p.root, name)); err != nil {
		return err
	}
	err := p.client.CoreV1().PersistentVolumes().Delete(ctx, name, metav1.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
