# The storage VM. Modules: puppetlabs-mount_core, -vcsrepo, -rsync and -stdlib. Of firewalld, Samba's accounts and file
# systems Debian has no module, so each is an exec with the question whether it is needed.
$disk = '@disk@'
$rule = 'rule family="ipv4" source address="192.168.2.0/24" port port="445" protocol="tcp" accept'

Exec { path => ['/usr/sbin', '/usr/bin', '/sbin', '/bin'] }

exec { 'the data disk has a file system':
  command => "mkfs.xfs -q -L data ${disk}",
  unless  => "blkid ${disk}",
}
-> exec { 'mkdir /mnt/data':
  creates => '/mnt/data',
}
-> mount { '/mnt/data':
  ensure  => mounted,
  device  => 'LABEL=data',
  fstype  => 'xfs',
  options => 'defaults,nofail',
}

exec { 'the WAS VMs reach the share, now':
  command => "firewall-cmd --add-rich-rule='${rule}'",
  unless  => "firewall-cmd --query-rich-rule='${rule}'",
}

exec { 'the WAS VMs reach the share, after a boot':
  command => "firewall-cmd --permanent --add-rich-rule='${rule}'",
  unless  => "firewall-cmd --permanent --query-rich-rule='${rule}'",
}

user { 'user1':
  ensure     => present,
  system     => true,
  managehome => false,
  shell      => '/usr/sbin/nologin',
}

file { '/var/lib/samba/private/user1.password':
  source    => 'file:///root/share.password',
  mode      => '0600',
  show_diff => false,
}
~> exec { 'the password in Samba':
  command     => 'cat /root/share.password /root/share.password | smbpasswd -s -a user1',
  provider    => shell,
  refreshonly => true,
  require     => User['user1'],
}

file { '/mnt/data/shared_folder':
  ensure  => directory,
  owner   => 'user1',
  group   => 'user1',
  mode    => '2770',
  require => Mount['/mnt/data'],
}

vcsrepo { '/srv/checkout':
  ensure   => latest,
  provider => git,
  source   => '/srv/ablestack-docs-sample.git',
  revision => 'main',
}

rsync::get { '/mnt/data/shared_folder/':
  source    => '/srv/checkout/linux-3tier-example/',
  recursive => true,
  times     => true,
  links     => true,
  chown     => 'user1:user1',
  chmod     => 'D2770,F0660',
  require   => [File['/mnt/data/shared_folder'], Vcsrepo['/srv/checkout']],
}

file { '/etc/samba/user1.conf':
  source => 'file:///root/bench/share.conf',
  mode   => '0644',
}

file_line { 'Samba knows the share':
  path => '/etc/samba/smb.conf',
  line => 'include = /etc/samba/user1.conf',
}

service { 'smbd':
  ensure    => running,
  enable    => true,
  restart   => 'systemctl reload smbd',
  subscribe => [File['/etc/samba/user1.conf'], File_line['Samba knows the share']],
  require   => [Exec['the password in Samba'], File['/mnt/data/shared_folder']],
}
