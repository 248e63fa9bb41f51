-- How many ratings were given a year, by how many users?
select
    year(rated_at) as rated_in,
    count(*) as ratings,
    count(distinct user_key) as users,
    round(count(*) / count(distinct user_key), 1) as ratings_per_user
from {{ ref('fct_ratings') }}
where edition != 'streaming'
group by rated_in
order by rated_in
