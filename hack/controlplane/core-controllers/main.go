// Command core-controllers runs four of the controllers of kube-controller-manager, unchanged and with its defaults: the
// garbage collector, namespaces, service accounts, and the ConfigMap with the root CA. A test cluster uses no others, and
// without them 300 packages fewer are compiled.
package main

import (
	"context"
	"flag"
	"os/signal"
	"syscall"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/discovery"
	cacheddiscovery "k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/informers"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/controller-manager/pkg/informerfactory"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/controller/certificates/rootcacertpublisher"
	"k8s.io/kubernetes/pkg/controller/garbagecollector"
	"k8s.io/kubernetes/pkg/controller/namespace"
	"k8s.io/kubernetes/pkg/controller/serviceaccount"
)

const resync = 12 * time.Hour

func main() {
	kubeconfig := flag.String("kubeconfig", "", "the kubeconfig to connect with")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err == nil {
		err = rest.LoadTLSFiles(config)
	}
	if err == nil {
		config.QPS, config.Burst = 20, 30
		err = start(ctx, config)
	}
	if err != nil {
		klog.Fatal(err)
	}
	<-ctx.Done()
}

// faster returns the configuration with a multiple of the rate.
func faster(config *rest.Config, qps float32, burst int) *rest.Config {
	config = rest.CopyConfig(config)
	config.QPS *= qps
	config.Burst *= burst
	return config
}

// typed returns a configuration that asks for the encoding that only the built-in types have.
func typed(config *rest.Config) *rest.Config {
	config = rest.CopyConfig(config)
	config.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	config.ContentType = "application/vnd.kubernetes.protobuf"
	return config
}

// clients returns a client of the built-in types, and one of the metadata of all objects.
func clients(config *rest.Config) (kubernetes.Interface, metadata.Interface, error) {
	client, err := kubernetes.NewForConfig(typed(config))
	if err != nil {
		return nil, nil, err
	}
	metadataClient, err := metadata.NewForConfig(config)
	return client, metadataClient, err
}

func start(ctx context.Context, config *rest.Config) error {
	client, metadataClient, err := clients(config)
	if err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactory(client, resync)
	both := informerfactory.NewInformerFactory(factory, metadatainformer.NewSharedInformerFactory(metadataClient, resync))
	started := make(chan struct{})
	core := factory.Core().V1()
	accounts, err := newServiceAccounts(klog.FromContext(ctx), core.ServiceAccounts(), core.Namespaces(), client)
	if err != nil {
		return err
	}
	certificates, err := rootcacertpublisher.NewPublisher(core.ConfigMaps(), core.Namespaces(), client, config.CAData)
	if err != nil {
		return err
	}
	if err := collectGarbage(ctx, config, client, both, started); err != nil {
		return err
	}
	if err := deleteNamespaces(ctx, config, core.Namespaces()); err != nil {
		return err
	}
	go accounts.Run(ctx, 1)
	go certificates.Run(ctx, 1)
	factory.Start(ctx.Done())
	both.Start(ctx.Done())
	close(started)
	return nil
}

// newServiceAccounts returns the controller of service accounts. Its constructor has a logger since Kubernetes 1.35.
func newServiceAccounts(logger klog.Logger, accounts coreinformers.ServiceAccountInformer,
	namespaces coreinformers.NamespaceInformer, client kubernetes.Interface) (*serviceaccount.ServiceAccountsController, error) {
	type options = serviceaccount.ServiceAccountsControllerOptions
	var constructor any = serviceaccount.NewServiceAccountsController
	if construct, ok := constructor.(func(coreinformers.ServiceAccountInformer, coreinformers.NamespaceInformer,
		kubernetes.Interface, options) (*serviceaccount.ServiceAccountsController, error)); ok {
		return construct(accounts, namespaces, client, serviceaccount.DefaultServiceAccountsControllerOptions())
	}
	construct := constructor.(func(klog.Logger, coreinformers.ServiceAccountInformer, coreinformers.NamespaceInformer,
		kubernetes.Interface, options) (*serviceaccount.ServiceAccountsController, error))
	return construct(logger, accounts, namespaces, client, serviceaccount.DefaultServiceAccountsControllerOptions())
}

func collectGarbage(ctx context.Context, config *rest.Config, client kubernetes.Interface,
	informers informerfactory.InformerFactory, started <-chan struct{}) error {
	discoveryClient, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return err
	}
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(cacheddiscovery.NewMemCacheClient(discoveryClient))
	go wait.Until(mapper.Reset, 30*time.Second, ctx.Done())
	metadataClient, err := metadata.NewForConfig(faster(config, 2, 1))
	if err != nil {
		return err
	}
	graph := garbagecollector.NewDependencyGraphBuilder(ctx, metadataClient, mapper,
		garbagecollector.DefaultIgnoredResources(), informers, started)
	collector, err := garbagecollector.NewComposedGarbageCollector(ctx, client, metadataClient, mapper, graph)
	if err != nil {
		return err
	}
	const period = 30 * time.Second
	go collector.Run(ctx, 20, period)
	go collector.Sync(ctx, discoveryClient, period)
	return nil
}

func deleteNamespaces(ctx context.Context, config *rest.Config, namespaces coreinformers.NamespaceInformer) error {
	config = faster(config, 20, 100)
	client, metadataClient, err := clients(config)
	if err != nil {
		return err
	}
	c := namespace.NewNamespaceController(ctx, client, metadataClient, client.Discovery().ServerPreferredNamespacedResources,
		namespaces, 5*time.Minute, v1.FinalizerKubernetes)
	go c.Run(ctx, 10)
	return nil
}
