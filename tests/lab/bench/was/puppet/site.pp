# A WAS VM. Modules: puppetlabs-mount_core. Of podman Debian has no module, so the image is an exec.
Exec { path => ['/usr/sbin', '/usr/bin', '/sbin', '/bin'] }

$image = 'docker.io/ablecloudteam/nodejs-server:linux-0.1'
$password = chomp(file('/root/share.password'))

file { '/root/.smb.cred':
  content   => Sensitive("username=user1\npassword=${password}\n"),
  mode      => '0600',
  show_diff => false,
}
-> exec { 'mkdir -p /mnt/data/shared_folder':
  creates => '/mnt/data/shared_folder',
}
-> mount { '/mnt/data/shared_folder':
  ensure  => mounted,
  device  => '//192.168.2.13/user1',
  fstype  => 'cifs',
  options => 'credentials=/root/.smb.cred,vers=3.1.1,seal,_netdev,nofail',
}

exec { "podman pull --quiet ${image}":
  unless  => "podman image exists ${image}",
  timeout => 600,
}

file { '/etc/systemd/system/nodejs-server.service':
  source => 'file:///root/bench/nodejs-server.service',
  mode   => '0644',
}
~> exec { 'systemctl daemon-reload':
  refreshonly => true,
}
~> service { 'nodejs-server':
  ensure  => running,
  enable  => true,
  require => [Mount['/mnt/data/shared_folder'], Exec["podman pull --quiet ${image}"]],
}
